#!/usr/bin/perl

# gate_api: who may call what, what is refused and why, and what is left
# behind by a write.

use strict;
use warnings;
use utf8;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use JSON::PP ();
use Test::More;
use Time::HiRes qw(time);

my $t = Gate->new;
my $token = 'Api-test-token-0123';
my $other = 'another-token-4567==';

sub tokens {
    my ($text, $mode) = @_;
    my $file = $t->dir . '/token';
    Gate::spew("$file.new", $text);
    chmod defined $mode ? $mode : 0600, "$file.new";
    rename "$file.new", $file or die "rename: $!";
}

tokens("# who may\nops $token\n\n\t$other \r\n");

my $upstreams = <<'EOF';
    upstream v1 { server 127.0.0.1:%%PORT:v1%%; }
    upstream v2 { server 127.0.0.1:%%PORT:v2%%; }
    upstream web { gate_canary v1 v2 weight=5% id=7; }
EOF

# one worker: each has its own copy of the tokens, as old as its last look

$t->http(workers => 1, <<"EOF");
$upstreams
    server {
        listen 127.0.0.1:%%PORT:http%%;
        gate_maintenance on;

        location / { return 200 "open\\n"; }
        location /shop/ { gate_maintenance shop; return 200 "open\\n"; }
        location /gate/api/ { gate_api token_file=%%DIR%%/token; }
        location /api { gate_api token_file=%%DIR%%/token; }
        location /file/ {
            client_body_buffer_size 1k;
            client_body_in_file_only on;
            gate_api token_file=%%DIR%%/token;
        }
        location /small/ {
            client_body_buffer_size 16;
            gate_api token_file=%%DIR%%/token;
        }
        location /gate { gate_status; }
    }
EOF

$t->start;

my %auth = (Authorization => "Bearer $token");
my %json = (%auth, 'Content-Type' => 'application/json');

sub call {
    my ($method, $path, $body, %opt) = @_;
    return $t->request($method => "/gate/api/$path",
        headers => defined $body ? \%json : \%auth,
        defined $body ? (body => $body) : (), %opt);
}

sub refused {
    my ($r, $status, $detail, $name) = @_;
    is($r->status, $status, "$name: $status");
    like(($r->json || {})->{detail}, $detail, "$name: why");
    is($r->header('cache-control'), 'no-store', "$name: not to be stored");
}

sub global { return call(GET => 'maintenance/global')->json }

sub event { return $t->get('/gate')->json->{events}[0] }

subtest 'without a valid token: 401' => sub {
    my %wrong = (
        'none'            => undef,
        'another scheme'  => "Basic $token",
        'no scheme'       => $token,
        'nothing'         => 'Bearer ',
        'a wrong one'     => 'Bearer wrong-token-0123456',
        'another case'    => 'Bearer ' . lc $token,
        'its beginning'   => 'Bearer ' . substr($token, 0, -1),
        'more than it'    => "Bearer ${token}x",
        'two'             => "Bearer $token $other",
        'its name'        => 'Bearer ops',
        'its line'        => "Bearer ops $token",
    );

    for my $name (sort keys %wrong) {
        my $value = $wrong{$name};
        for my $path ('', 'maintenance', 'no/such/path') {
            my $r = $t->get("/gate/api/$path", headers =>
                defined $value ? { Authorization => $value } : {});
            refused($r, 401, qr/Bearer/, "$name /$path");
            like($r->header('www-authenticate'), qr/^Bearer realm=/,
                'WWW-Authenticate');
        }
    }

    for my $cookie ('token', 'Authorization') {
        is($t->get("/gate/api/?token=$token", headers => { Cookie =>
            "$cookie=Bearer $token" })->status, 401, "a cookie ($cookie)");
    }

    is($t->post('/gate/api/maintenance', headers => { 'Content-Type' =>
        'application/json' }, body => 'true')->status, 401, 'a write');
    is(global()->{on}, JSON::PP::false, 'which has done nothing');

    for my $value ("Bearer $token", "bearer $token", "Bearer  $token",
        "Bearer $other")
    {
        is($t->get('/gate/api/', headers => { Authorization => $value })
            ->status, 200, "'$value'");
    }

    $t->log_like(qr/\[warn\].*wrong token for the api/, 'it is logged');
    $t->log_unlike(qr/wrong-token|\Q$token\E|\Q$other/i, 'but no token is');
};

subtest 'what can be read' => sub {
    for my $path ('', 'status', 'maintenance', 'maintenance/global',
        'maintenance/shop', 'drain', 'maintenance/shop/drain', 'canary',
        'canary/web')
    {
        my ($get, $head) = map { call($_ => $path) } qw(GET HEAD);
        is($get->status, 200, "GET $path");
        is(ref $get->json, 'HASH', 'an object');
        is($head->status, 200, "HEAD $path");
        is($head->body, '', 'no body');
    }

    is_deeply([ sort keys %{ call(GET => 'maintenance')->json } ],
        ['global', 'shop'], 'the switches');
    is(call(GET => 'canary')->json->{web}{weight}, 5, 'the rollouts');
    is_deeply([ sort keys %{ call(GET => '')->json } ],
        [ sort keys %{ $t->get('/gate')->json } ], 'the status');

    my $pretty = call(GET => 'maintenance?pretty')->body;
    like($pretty, qr/\n    "global": \{/, 'pretty');
    is($t->get('/api/maintenance', headers => \%auth)->status, 200,
        'below a location without a slash');
};

subtest 'what there is not: 404 with what there is' => sub {
    my %missing = (
        'nope'                => ['path', 'paths', 'maintenance'],
        'maintenance/nope'    => ['switch', 'switches', 'shop'],
        'maintenance/sho'     => ['switch', 'switches', 'shop'],
        'maintenance/on'      => ['switch', 'switches', 'shop'],
        'maintenance/shop/x'  => ['action', 'actions', 'drain'],
        'maintenance/shop/drain/x' => ['path', 'paths', 'drain'],
        'canary/nope'         => ['rollout', 'rollouts', 'web'],
        'canary/v1'           => ['rollout', 'rollouts', 'web'],
        'canary/web/nope'     => ['action', 'actions', 'abort'],
        'maintenance/%0a%22%ff<' => ['switch', 'switches', 'shop'],
    );

    for my $path (sort keys %missing) {
        my ($what, $key, $one) = @{ $missing{$path} };
        for my $method (qw(GET POST DELETE)) {
            my $r = call($method => $path);
            refused($r, 404, qr/^there is no $what "/, "$method $path");
            ok((grep { $_ eq $one } @{ $r->json->{$key} }), "$key: $one");
        }
    }

    my $long = call(GET => 'maintenance/' . 'ä' x 500);
    is($long->status, 404, 'a long name');
    is($t->get('/apix', headers => \%auth)->status, 404,
        'not below the location');
};

subtest 'another method: 405 with Allow' => sub {
    my %allow = (
        'status'              => 'GET, HEAD',
        'drain'               => 'GET, HEAD',
        'maintenance/shop/drain' => 'GET, HEAD',
        'canary'              => 'GET, HEAD',
        'canary/web'          => 'GET, HEAD',
        'canary/web/pause'    => 'POST',
        'maintenance'         => 'GET, HEAD, POST, DELETE',
        'maintenance/shop'    => 'GET, HEAD, POST, DELETE',
    );

    for my $path (sort keys %allow) {
        for my $method (qw(GET HEAD POST DELETE PUT PATCH OPTIONS)) {
            next if $allow{$path} =~ /\b$method\b/;
            my $r = call($method => $path);
            is($r->status, 405, "$method $path");
            is($r->header('allow'), $allow{$path}, 'Allow');
        }
    }

    is(call(GET => 'canary/web')->json->{state}, 'progressing',
        'nothing has happened');
};

subtest 'another content type: 415' => sub {
    for my $type (undef, 'text/plain', 'application/x-www-form-urlencoded',
        'application/jsonx', 'application/json+x', 'application', '')
    {
        my $name = defined $type ? "'$type'" : 'none';
        my $r = $t->post('/gate/api/maintenance', body => 'true', headers =>
            { %auth, defined $type ? ('Content-Type' => $type) : () });
        refused($r, 415, qr{application/json}, $name);
    }

    is(global()->{on}, JSON::PP::false, 'nothing has happened');

    for my $type ('application/json; charset=utf-8', 'Application/JSON',
        'application/json ;x')
    {
        is($t->post('/gate/api/maintenance', body => 'false', headers =>
            { %auth, 'Content-Type' => $type })->status, 200, "'$type'");
    }
};

subtest 'a body that is too long: 413' => sub {
    my $r = call(POST => 'maintenance', 'true' . ' ' x 8189);
    refused($r, 413, qr/8192/, 'by its length');

    my $piece = sprintf "%x\r\n%s\r\n", 8000, ' ' x 8000;
    $r = $t->post('/gate/api/maintenance', headers => { %json,
        'Transfer-Encoding' => 'chunked' },
        body => $piece . "c1\r\n" . ' ' x 193 . "\r\n0\r\n\r\n");
    refused($r, 413, qr/8192/, 'in chunks');

    is(global()->{on}, JSON::PP::false, 'nothing has happened');
    is(call(POST => 'maintenance', 'false' . ' ' x 8187)->status, 200,
        'as long as it may be');
};

subtest 'what a switch may be set to' => sub {
    for (['"on"', 1], ['"off"', 0], ['"maintenance"', 1], ['0', 0], ['1', 1],
        ['false', 0], ['true', 1], ['{"on": false}', 0], ['{}', 1],
        ['{"on": false, "message": "later"}', 0],
        ['{"read_only": true}', 1], ['{"until": 1}', 0],
        ['{"from": "2099-01-01T00:00:00Z"}', 0],
        ['{"until": "2099-01-01T00:00:00+02:00"}', 1], ['{"ttl": 99}', 1],
        ['{"retry_after": 2592000}', 1], ["\n {} \n", 1],
        ['{"message": "' . 'é' x 256 . '"}', 1])
    {
        my ($body, $on) = @$_;
        utf8::encode($body);
        my $r = call(POST => 'maintenance', $body);
        is($r->status, 200, 'the body ' . substr $body, 0, 60);
        is($r->json->{on}, $on ? JSON::PP::true : JSON::PP::false, 'on');
        is($t->get('/')->status, $r->json->{read_only} || !$on ? 200 : 503,
            'and so it is');
    }

    is(call(DELETE => 'maintenance')->status, 200, 'DELETE');
    is($t->get('/')->status, 200, 'opens');

    is(call(POST => 'maintenance/shop', '{"message": "x"}')->json->{message},
        'x', 'a switch');
    is($t->get('/shop/')->status, 503, 'is closed');
    is($t->get('/')->status, 200, 'and no other');
    is(call(DELETE => 'maintenance/shop')->status, 200, 'DELETE');
    is($t->get('/shop/')->status, 200, 'opens');
};

subtest 'anything else: 400 with what it may be' => sub {
    my @bad = ('null', '2', '-1', '1.0', '1e999', '9' x 40, '"maybe"', '""',
        '[]', '[true]', '{"on": 1}', '{"on": "true"}', '{"on": null}',
        '{"retry_after": -1}', '{"retry_after": 2592001}',
        '{"retry_after": 1.5}', '{"retry_after": "5"}', '{"ttl": 0}',
        '{"ttl": -5}', '{"ttl": 1, "until": 4000000000}',
        '{"until": "yesterday"}', '{"until": -1}',
        '{"from": 20, "until": 10}', '{"until": 253402300800}',
        '{"message": 5}', '{"message": "' . 'x' x 513 . '"}',
        '{"message": "a\u001bb"}', '{"message": "a\u0000b"}',
        '{"read_only": "yes"}', '{"onn": false}', '{"On": false}',
        '{"state": "off"}');
    my @syntax = ('tru', '{', '{}}', '{"on": true, "on": false}', 'on',
        "\0", "true\0", qq("on\0"), qq("\xff"), "\xef\xbb\xbftrue", ' ',
        "{'on': true}", '{"on": true,}', '[' x 1000, '[[[[[1]]]]]',
        '{"a":' x 1600, '{"on": 9' . '9' x 100 . '}');

    my $before = global();

    for my $body (@bad, @syntax) {
        (my $name = substr $body, 0, 40) =~ s/([^ -~])/sprintf '\\x%02x',
            ord $1/ge;
        my $r = call(POST => 'maintenance', $body);
        is($r->status, 400, "body $name");
        like($r->json->{detail}, (grep { $_ eq $body } @bad)
            ? qr/^the value is "on", "off"|no valid JSON/
            : qr/no valid JSON|nested too deep/, 'why');
    }

    refused(call(POST => 'maintenance'), 400, qr/^the value is/, 'no body');
    is_deeply(global(), $before, 'nothing has happened');

    for (['reason', 'x' x 128], ['actor', 'x' x 64], ['reason', 5],
        ['actor', []], ['reason', "a\nb"], ['actor', "a\x{7f}b"],
        ['reason', "a\x{85}b"])
    {
        my $r = call(POST => 'maintenance', JSON::PP->new->utf8->encode(
            { on => JSON::PP::true, $_->[0] => $_->[1] }));
        is($r->status, 400, "$_->[0]");
        like($r->json->{detail}, qr/^"$_->[0]" is a string of up to/, 'why');
    }

    refused(call(GET => "drain?timeout=$_"), 400, qr/at most 10m/,
        "timeout=$_") for '11m', '-1', 'x', '', '1h', '9' x 30;
};

subtest 'a body arrives in whatever way' => sub {
    my $body = '{"on": true, "message": "' . 'm' x 512 . '"'
        . ' ' x 3000 . '}';

    for my $at ('/file', '/small', '/gate/api') {
        my $r = $t->post("$at/maintenance", headers => \%json, body => $body);
        is($r->status, 200, "$at: a longer one");
        is(length $r->json->{message}, 512, 'all of it');

        $r = $t->post("$at/maintenance", headers => { %json,
            'Transfer-Encoding' => 'chunked' }, body => join '',
            map { sprintf "%x\r\n%s\r\n", length, $_ }
            '{"o', 'n": ', "false\n", '}', '');
        is($r->status, 200, "$at: in chunks");
        is($r->json->{on}, JSON::PP::false, 'all of it');

        my $c = $t->conn;
        my $head = "POST $at/maintenance HTTP/1.1\r\nHost: x\r\n"
            . "Content-Type: application/json\r\nContent-Length: 4\r\n"
            . "Authorization: Bearer $token\r\n\r\n";
        for my $piece ($head . 't', 'r', 'u', 'e') {
            $c->write($piece);
            select undef, undef, undef, 0.01;
        }
        is($c->recv->json->{on}, JSON::PP::true, "$at: by and by");
        $c->close;
    }

    is(call(DELETE => 'maintenance')->status, 200, 'off');

    # a client that gives up half-way has said nothing
    my $c = $t->conn;
    $c->write("POST /gate/api/maintenance HTTP/1.1\r\nHost: x\r\n"
        . "Content-Type: application/json\r\nContent-Length: 5\r\n"
        . "Authorization: Bearer $token\r\n\r\ntrue");
    $c->close;
    $t->wait_log(qr/prematurely closed connection/);
    is(global()->{on}, JSON::PP::false, 'half a body does nothing');
};

subtest 'a refusal leaves the connection usable' => sub {
    my $c = $t->conn;
    my $n = 0;

    for (
        [401, POST => 'maintenance', {}, 'x' x 20000],
        [404, POST => 'nope', \%json, '{}'],
        [405, PUT => 'maintenance', \%json, 'GET / HTTP/1.1'],
        [415, POST => 'maintenance', \%auth, 'GET / HTTP/1.1'],
        [413, POST => 'maintenance', \%json, 'x' x 9000],
        [400, POST => 'maintenance', \%json, 'x' x 8000],
        [409, POST => 'canary/web/resume', \%auth, undef],
        [401, POST => 'maintenance', { 'Transfer-Encoding' => 'chunked' },
            "e\r\nGET / HTTP/1.1\r\n0\r\n\r\n"],
    ) {
        my ($status, $method, $path, $headers, $body) = @$_;
        is($c->request($method => "/gate/api/$path", headers => $headers,
            defined $body ? (body => $body) : ())->status, $status,
            "$method $path: $status");
        is($c->request(GET => '/gate/api/', headers => \%auth)->status, 200,
            'the next one');
    }

    $c->close;

    $c = $t->conn;
    $c->write("POST /gate/api/maintenance HTTP/1.1\r\nHost: x\r\n"
        . "Content-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    is($c->read_bytes(12), 'HTTP/1.1 401', 'nobody is invited to send more');
    $c->close;
};

subtest 'every write is logged and leaves an event' => sub {
    my $from = $t->log_size;
    call(POST => 'maintenance', JSON::PP->new->utf8->encode({
        read_only => JSON::PP::true, until => '2099-01-01T00:00:00Z',
        reason => q{a "quoted" reason, <b> \\ ü}, actor => 'mé' }));

    my $e = event();
    is($e->{event}, 'maintenance', 'what');
    is($e->{object}, 'global', 'on what');
    is($e->{by}, 'ops@127.0.0.1 (mé)', 'who');
    is($e->{source}, 'api', 'how');
    is($e->{before}, 'off', 'before');
    is($e->{after}, 'read_only until 2099-01-01T00:00:00.000Z', 'after');
    is($e->{reason}, q{a "quoted" reason, <b> \\ ü}, 'why');
    like($e->{time}, qr/^20\d\d-\d\d-\d\dT[\d:.]+Z$/, 'when');

    my ($line) = $t->log_from($from) =~ /\[notice\].*gate: (\{.*\})$/m;
    is_deeply(Gate::json($line), $e, 'the log has the same');

    my $g = global();
    is($g->{actor}, $e->{by}, 'the switch knows who');
    is($g->{source}, 'api', 'and how');

    $t->request(DELETE => '/gate/api/maintenance/shop',
        headers => { Authorization => "Bearer $other" });
    $e = event();
    is($e->{object}, 'shop', 'DELETE: on what');
    is($e->{by}, 'token 2@127.0.0.1', 'a token without a name has a number');
    is($e->{after}, 'off', 'after');

    call(POST => 'canary/web/weight', '{"weight": "12.5%", "reason": "go"}');
    $e = event();
    is_deeply([ @$e{qw(event object before after reason)} ],
        ['weight', 'web', 'progressing 5%', 'progressing 12.5%', 'go'],
        'a rollout');

    my $n = $t->get('/gate')->json->{events}[0];
    call(POST => 'canary/web/resume');
    call(POST => 'maintenance', '[]');
    is_deeply(event(), $n, 'what is refused leaves none');

    my @odd = grep { !m{^\d{4}/\d\d/\d\d } } split /\n/, $t->log_from($from);
    is_deeply(\@odd, [], 'no client can write a line of the log');
    call(DELETE => 'maintenance');
};

subtest 'what may happen to a rollout' => sub {
    my %via = (
        progressing => [],
        idle        => [['weight', '{"weight": 0}']],
        paused      => [['pause']],
        promoted    => [['promote']],
        rolled_back => [['abort']],
    );

    # what each action makes of each state; undef: refused

    my %table = (
        idle => { weight => 'progressing', promote => 'promoted',
            abort => 'rolled_back', start => 'progressing' },
        progressing => { weight => 'progressing', pause => 'paused',
            promote => 'promoted', abort => 'rolled_back',
            start => 'progressing' },
        paused => { weight => 'paused', resume => 'progressing',
            promote => 'promoted', abort => 'rolled_back',
            start => 'progressing' },
        promoted => { promote => 'promoted', abort => 'rolled_back',
            start => 'progressing' },
        rolled_back => { retry => 'progressing', start => 'progressing' },
    );

    my %weight = (progressing => 5, idle => 0, paused => 5, promoted => 100,
        rolled_back => 0);

    for my $state (sort keys %table) {
        for my $action (qw(weight pause resume promote abort retry start)) {
            call(POST => 'canary/web/start');
            call(POST => "canary/web/$_->[0]", $_->[1])
                for @{ $via{$state} };

            my $was = call(GET => 'canary/web')->json;
            is($was->{state}, $state, "$state") or last;
            is($was->{weight}, $weight{$state}, 'its weight');

            my $r = call(POST => "canary/web/$action",
                $action eq 'weight' ? '{"weight": 20}' : undef);
            my $now = call(GET => 'canary/web')->json;
            my $next = $table{$state}{$action};

            is($r->status, $next ? 200 : 409, "$state, $action");
            is($now->{state}, $next || $state, 'state');

            is($now->{weight}, !$next ? $was->{weight}
                : $action eq 'weight' ? 20
                : $action eq 'resume' || $action eq 'pause' ? $was->{weight}
                : $weight{$next}, 'weight');
            is($now->{epoch} > $was->{epoch} ? 'new' : 'old',
                $next && $action =~ /^(?:start|retry)$/ ? 'new' : 'old',
                'epoch');

            next if $next;
            is($r->json->{state}, $state, 'the refusal says the state');
            ok(length $r->json->{detail}, 'and why');
        }
    }

    call(POST => 'canary/web/promote');
    is(call(POST => 'canary/web/weight', '{"weight": 100}')->status, 200,
        'promoted, 100 %: it is so');
};

subtest 'a weight' => sub {
    call(POST => 'canary/web/start');

    for (['5', 5], ['"5%"', 5], ['0.01', 0.01], ['"0.01%"', 0.01],
        ['100', 100], ['"100%"', 100], ['33.33', 33.33], ['1e1', 10],
        ['0', 0])
    {
        my ($text, $weight) = @$_;
        my $r = call(POST => 'canary/web/weight', qq({"weight": $text}));
        is($r->status, 200, "weight $text");
        is($r->json->{weight}, $weight, 'it is');
    }

    for my $text ('-1', '100.01', '101', '0.001', '1e9', 'true', 'null',
        '"5%%"', '"-5%"', '"%"', '""', '"1e1%"', '" 5%"', '[5]')
    {
        my $r = call(POST => 'canary/web/weight', qq({"weight": $text}));
        refused($r, 400, qr/percentage from 0 to 100/, "weight $text");
    }

    refused(call(POST => 'canary/web/weight', $_), 400,
        qr/percentage|JSON object/, "body " . ($_ // "(none)"))
        for undef, '{}', '5', '[]', '{"wait": 5}', '{"weight": 5, "x": 1}';
    refused(call(POST => 'canary/web/pause', $_), 400, qr/body/, "body $_")
        for '5', '[]', '{"weight": 5}';
    is(call(GET => 'canary/web')->json->{weight}, 0, 'nothing has happened');
    is(call(POST => 'canary/web/start', '{"reason": "x"}')->json->{reason},
        'x', 'an action with a reason');
};

subtest 'a changed token file is read while nginx runs' => sub {
    my $status = sub {
        return $t->get('/gate/api/', headers => { Authorization =>
            "Bearer $_[0]" })->status;
    };
    my $new = 'a-new-token-0123456789';

    my $from = $t->log_size;
    tokens("ops $new\n");
    wait_for { $status->($new) == 200 } what => 'the new token';
    wait_for { $status->($token) == 401 && $status->($token) == 401 }
        what => 'the old one to go';
    pass('the new one is valid, the old one is not');
    $t->wait_log(qr/token file .* has changed, 1 tokens are valid now/,
        from => $from);

    for (['short' => 'short', 0600], ['empty' => '', 0600],
        ['open to all' => $token, 0644])
    {
        my ($name, $text, $mode) = @$_;
        $from = $t->log_size;
        tokens($text, $mode);
        wait_for {
            $status->($new);
            $t->log_from($from) =~ /has changed, but it/;
        } what => "a complaint ($name)";
        is($status->($new), 200, "$name: the tokens stay");
        is($status->($token), 401, "$name: no other comes");
    }

    tokens("ops $token\n");
    wait_for { $status->($token) == 200 && $status->($new) == 401 }
        what => 'the first token';
    $t->log_unlike(qr/\Q$new\E|\Q$token\E/, 'no token is logged');
};

subtest 'mistakes that nginx -t finds' => sub {
    my $test = sub {
        my ($text, $mode, $re, $name) = @_;
        my $path = $t->dir . '/t';
        unlink $path;
        rmdir $path;
        if (!defined $text) { }
        elsif (ref $text) { mkdir $path }
        else { Gate::spew($path, $text); chmod $mode, $path }

        my ($code, $out) = $t->test_http('server { location /a/ { '
            . 'gate_api token_file=%%DIR%%/t; } }');
        is($code, defined $re ? 1 : 0, $name);
        like($out, $re, "$name: why") if defined $re;
        unlike($out, qr/\Q$token/, "$name: no token is shown");
    };

    $test->("$token\n", 0600, undef, 'a good file');
    $test->("ops $token # no", 0600, qr/line 1: a line is/, 'three words');
    $test->(undef, 0, qr/cannot be opened .*No such file/, 'no file');
    $test->({}, 0, qr/not a regular file/, 'a directory');
    $test->($token, $_, qr/by everybody, use "chmod 600"/,
        sprintf 'mode %o', $_) for 0644, 0604, 0602;
    $test->('', 0600, qr/is empty/, 'an empty one');
    $test->("# only\n\n", 0600, qr/there is no token in it/, 'a comment');
    $test->("x" x 15, 0600, qr/line 1: a token is 16 to 1024/, 'too short');
    $test->("\n" . "x" x 1025, 0600, qr/line 2: a token is/, 'too long');
    $test->('has"quotes"in-it-12', 0600, qr/a token is/, 'characters');
    $test->('=' x 20, 0600, qr/a token is/, 'nothing but padding');
    $test->("a/b $token", 0600, qr/a name is 1 to 32/, 'a bad name');
    $test->(join('', map { "token-number-$_-is-a-long-one\n" } 1 .. 3000),
        0600, qr/is too long/, 'too much');

    Gate::spew($t->dir . '/t', $token);
    my $good = 'gate_api token_file=%%DIR%%/t';

    for (
        ['gate_api;', qr/needs "token_file=path": nobody may write/],
        ['gate_api token_file=;', qr/invalid parameter "token_file="/],
        ["$good x;", qr/invalid parameter "x" in "gate_api"/],
        ["$good token_file=y;", qr/invalid parameter "token_file=y"/],
        ["$good; gate_status;", qr/has one of the gate's endpoints already/],
        ["$good; $good;", qr/has one of the gate's endpoints already/],
    ) {
        my ($code, $out) = $t->test_http(
            "server { location /a/ { $_->[0] } }");
        is($code, 1, $_->[0]);
        like($out, $_->[1], 'why');
        like($out, qr/ in \S+:\d+$/m, 'where');
    }

    for my $location ('= /a', '~ /a', '@a') {
        my ($code, $out) = $t->test_http(
            "server { location $location { $good; } }");
        is($code, 1, "location $location");
        like($out, qr/needs a location given by a prefix/, 'why');
    }
};

$t->done;
done_testing;
