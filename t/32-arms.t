#!/usr/bin/perl

# What an arm may be, and where a composite may stand: each arm keeps its own
# servers, method, zone and connections, whatever passes requests to it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Test::More;

my $t = Gate->new;

my @names = qw(s1 s2 c1 c2);
my %b = map { $_ => $t->backend('ok', body => $_, name => $_) } @names;
my %f = map { $_ => $t->backend('echo', fastcgi => 1, name => $_) } qw(fs fc);
my %u = map { $_ => $t->backend('echo', uwsgi => 1, name => $_) } qw(us uc);
my $main = $t->backend('ok', body => 'main');

my ($crt, $key) = $t->cert;
my %addr = map { $_->[0] => $_->[1]->addr } map { my $h = $_;
    map { [$_, $h->{$_}] } keys %$h } \%b, \%f, \%u;

# Every kind of arm, with two servers; the first %s stands for the name.

my %kind = (
    plain       => 'server A; server B;',
    weighted    => 'server A weight=3; server B;',
    zone        => 'zone %s 64k; server A; server B;',
    keepalive   => 'server A; server B; keepalive 4;',
    hash        => 'hash $arg_k; server A; server B;',
    consistent  => 'hash $arg_k consistent; server A; server B;',
    ip_hash     => 'ip_hash; server A; server B;',
    least_conn  => 'least_conn; server A; server B;',
    random      => 'random; server A; server B;',
    random_two  => 'random two; zone %s 64k; server A; server B;',
    backup      => 'server A; server B backup;',
    down        => 'server A down; server B;',
    single      => 'server A;',
    everything  => 'zone %s 64k; least_conn; server A max_conns=100;'
        . ' server B backup; keepalive 2;',
);

my ($upstreams, $locations) = ('', '');

for my $kind (sort keys %kind) {
    for my $arm ('s', 'c') {
        my $block = $kind{$kind};
        $block =~ s/A/$addr{"${arm}1"}/;
        $block =~ s/B/$addr{"${arm}2"}/;
        $block =~ s/%s/${arm}_$kind/;
        $upstreams .= "    upstream ${arm}_$kind { $block }\n";
    }
    $upstreams .= "    upstream $kind { gate_canary s_$kind c_$kind;"
        . " gate_force \$arg_arm; }\n";
    $locations .= "        location = /$kind { proxy_pass http://$kind; }\n";
}

$t->http(workers => 1, <<"EOF");
    proxy_http_version 1.1;
    proxy_set_header Connection '';
    proxy_next_upstream error timeout invalid_header http_500 http_503;
    fastcgi_next_upstream error timeout invalid_header http_500 http_503;
    uwsgi_next_upstream error timeout invalid_header http_500 http_503;
    grpc_next_upstream error timeout invalid_header http_500 http_503;
    proxy_cache_path %%DIR%%/cache keys_zone=cache:1m;
    ssl_session_cache shared:tls:1m;

$upstreams

    upstream outer { gate_canary s_single c_single; gate_force \$arg_arm;
                     keepalive 4; }

    upstream fs { server $addr{fs}; }
    upstream fc { server $addr{fc}; }
    upstream fcgi { gate_canary fs fc weight=100%; }

    upstream us { server $addr{us}; }
    upstream uc { server $addr{uc}; }
    upstream uwsgi { gate_canary us uc weight=100%; }

    upstream ts { server 127.0.0.1:%%PORT:ts%%; }
    upstream tc { server 127.0.0.1:%%PORT:tc%%; }
    upstream tls { gate_canary ts tc; gate_force \$arg_arm always; }
    upstream notls { gate_canary ts nothing weight=100%; }
    upstream nothing { server 127.0.0.1:%%PORT:http%%; }

    # sessions belong to servers: one that was not verified is no good here
    upstream vs { server 127.0.0.1:%%PORT:ts%%; }
    upstream vc { server 127.0.0.1:%%PORT:tc%%; }
    upstream verify { gate_canary vs vc; gate_force \$arg_arm always; }

    upstream gs { server 127.0.0.1:%%PORT:gs%%; }
    upstream gc { server 127.0.0.1:%%PORT:gc%%; keepalive 2; }
    upstream grpc { gate_canary gs gc; gate_force \$arg_arm always; }
    upstream nogrpc { gate_canary gs c_single weight=100%; }

    upstream one { gate_canary s_single c_single;
                   gate_force \$arg_arm \$http_x_arm; }
    upstream two { gate_canary main c_single; gate_force \$arg_two; }
    upstream main { server @{[ $main->addr ]}; }

    server {
        listen 127.0.0.1:%%PORT:http%%;

        add_header X-Served \$gate_arm_served always;
        add_header X-Cache \$upstream_cache_status;

$locations

        location /outer { proxy_pass http://outer; }

        location /fcgi { fastcgi_pass fcgi;
            fastcgi_param REQUEST_METHOD \$request_method;
            fastcgi_param REQUEST_URI \$request_uri;
            fastcgi_param CONTENT_LENGTH \$content_length; }

        location /uwsgi { uwsgi_pass uwsgi;
            uwsgi_param REQUEST_METHOD \$request_method;
            uwsgi_param REQUEST_URI \$request_uri;
            uwsgi_param CONTENT_LENGTH \$content_length; }

        # a kept connection needs no session
        location /tls { proxy_pass https://tls;
            proxy_set_header Connection close; }
        location /tls/once { proxy_pass https://tls;
            proxy_set_header Connection close;
            proxy_ssl_session_reuse off; }
        location /tls/verify { proxy_pass https://verify;
            proxy_ssl_verify on; proxy_ssl_trusted_certificate $crt;
            proxy_ssl_name localhost; proxy_ssl_server_name on; }
        location /tls/wrong { proxy_pass https://tls;
            proxy_ssl_verify on; proxy_ssl_trusted_certificate $crt;
            proxy_ssl_name other.example; proxy_ssl_session_reuse off; }
        location /notls { proxy_pass https://notls; }

        location /grpc { grpc_pass grpc://grpc; }
        location /nogrpc { grpc_pass grpc://nogrpc; }

        location /variable { set \$name one; proxy_pass http://\$name; }
        location /arg { proxy_pass http://\$arg_name\$uri; }

        location /ws { proxy_pass http://one;
            proxy_set_header Upgrade \$http_upgrade;
            proxy_set_header Connection upgrade; }

        location /auth { auth_request /check; proxy_pass http://main; }
        location = /check { internal; proxy_pass http://one;
            proxy_pass_request_body off;
            proxy_set_header Content-Length ''; }

        location /mirror { mirror /copy; proxy_pass http://main; }
        location = /copy { internal; proxy_pass http://one; }

        location /ssi { ssi on; proxy_pass http://main; }
        location /part { proxy_pass http://one; }

        location /page { proxy_pass http://one;
            proxy_intercept_errors on;
            error_page 500 503 = \@two; }
        location \@two { proxy_pass http://two; }

        location /accel { proxy_pass http://one; }
        location /inside { internal; proxy_pass http://two; }

        location /cache { proxy_pass http://one;
            proxy_cache cache; proxy_cache_valid 200 1h;
            proxy_cache_key "\$uri \$gate_arm_one"; }

        location /status { gate_status; }
    }

    # TLS and HTTP/2 servers of our own

    map \$arg_fail \$fail_ts { default 0; ~s 1; }
    map \$arg_fail \$fail_tc { default 0; ~c 1; }

    server {
        listen 127.0.0.1:%%PORT:ts%% ssl;
        listen 127.0.0.1:%%PORT:gs%% http2;
        ssl_certificate $crt;
        ssl_certificate_key $key;
        if (\$fail_ts) { return 503; }
        return 200 "stable \$ssl_session_reused \$ssl_server_name";
    }

    server {
        listen 127.0.0.1:%%PORT:tc%% ssl;
        listen 127.0.0.1:%%PORT:gc%% http2;
        ssl_certificate $crt;
        ssl_certificate_key $key;
        if (\$fail_tc) { return 503; }
        return 200 "canary \$ssl_session_reused \$ssl_server_name";
    }
EOF

$t->start;

sub fresh {
    for my $name (keys %b) { $b{$name}->set('ok', body => $name)->clear }
    $main->set('ok', body => 'main')->clear;
    return;
}

sub asked { return { map { my $n = $b{$_}->requests; $n ? ($_ => $n) : () }
    @names } }

# who answers 8 requests with different keys

sub answers {
    my ($uri) = @_;
    my %seen;
    $seen{ $t->get("$uri&k=$_")->body }++ for 1 .. 8;
    return \%seen;
}

my %shares = (
    plain => [4, 4], weighted => [6, 2], zone => [4, 4], keepalive => [4, 4],
    least_conn => [4, 4], ip_hash => [8, 0], backup => [8, 0],
    down => [0, 8], single => [8, 0], everything => [8, 0],
);

for my $kind (sort keys %kind) {
    subtest "arms with $kind" => sub {
        fresh();

        for (['never', 's'], ['always', 'c']) {
            my ($force, $arm) = @$_;
            my $seen = answers("/$kind?arm=$force");

            is(join(' ', grep { !/^${arm}[12]\z/ } keys %$seen), '',
                "$force: only servers of that arm answer");

            if (my $share = $shares{$kind}) {
                my %want = ("${arm}1" => $share->[0], "${arm}2" => $share->[1]);
                delete @want{ grep { !$want{$_} } keys %want };

                # which of the two is that of the address, nobody knows
                $seen = { map { s/\d/1/r => $seen->{$_} } keys %$seen }
                    if $kind eq 'ip_hash' && keys %$seen == 1;
                is_deeply($seen, \%want, 'in the shares of their method');
            }
        }

        if ($kind eq 'hash' || $kind eq 'consistent') {
            my %has;
            for my $k (1 .. 8) {
                my %who = map { $t->get("/$kind?arm=always&k=$k")->body => 1 }
                    1 .. 3;
                is(keys %who, 1, "key $k has one server");
                $has{(keys %who)[0]}++;
            }
            is(keys %has, 2, 'and both servers have keys');
        }

        # once per server: then it is down for a while, or not (single)

        $b{$_}->set(status => 500) for qw(c1 c2);
        fresh_counts();

        for my $i (1 .. 4) {
            my $r = $t->get("/$kind?arm=always&k=$i");
            is($r->status, 200, "a bad canary: request $i is answered");
            like($r->body, qr/^s/, 'by stable');
        }
        my $n = $b{c1}->requests + $b{c2}->requests;
        cmp_ok($n, '>=', 1, 'the canary was asked');
        cmp_ok($n, '<=', 4, 'once per request at most');
    };
}

sub fresh_counts { $_->clear for values %b; return }

# Keepalive and backup servers, in the arm and around it.

fresh();

subtest 'connections of an arm are kept by the arm' => sub {
    my $n = $b{s1}->connections;
    $t->get('/everything?arm=never') for 1 .. 5;
    is_deeply(asked(), { s1 => 5 }, 'one server');
    cmp_ok($b{s1}->connections - $n, '<=', 1, 'one connection');

    fresh();
    $t->get('/outer?arm=always');
    $n = $b{c1}->connections;
    $t->get("/outer?arm=$_") for ('always') x 4;
    is($b{c1}->connections, $n, 'keepalive around the arms');

    $t->get('/outer?arm=never');
    $n = $b{s1}->connections;
    is($t->get('/outer?arm=never')->body, 's1', 'the other arm');
    is($b{s1}->connections, $n, 'has connections of its own');
    is($t->get('/outer?arm=always')->body, 'c1', 'and nobody gets the wrong one');
};

# the reload gives fresh arms: servers that were failed above are live again

$t->reload;
fresh();

subtest 'a backup server of the canary' => sub {
    $b{c1}->refuse;
    is($t->get('/backup?arm=always')->body, 's1', 'a failure goes to stable');
    is($t->get('/backup?arm=always')->body, 'c2',
        'the next request finds the backup');
    $b{c1}->listen;
};

subtest 'a backup server of stable' => sub {
    $b{s1}->refuse;
    $b{c2}->set(status => 500);
    my $r = $t->get('/backup?arm=always');
    is($r->body, 's2', 'takes over what the canary failed');
    is($r->header('x-served'), 'canary, stable, stable', 'with its own tries');
    $b{s1}->listen;
};

fresh();

# Other protocols.

for (['fcgi', $f{fc}], ['uwsgi', $u{uc}]) {
    my ($name, $canary) = @$_;

    subtest "${name}_pass" => sub {
        my $r = $t->post("/$name", body => 'data');
        is_deeply([@{ $r->json }{qw(method body backend)}],
            ['POST', 'data', substr($name, 0, 1) . 'c'], 'the canary answers');

        for my $how ([status => 500], ['close'], ['half'], ['refuse']) {
            $how->[0] eq 'refuse' ? $canary->refuse : $canary->set(@$how);
            $r = $t->get("/$name");
            is($r->json->{backend}, substr($name, 0, 1) . 's',
                "@$how: stable answers") or diag($r->as_text);
            is($r->header('x-served'), 'canary, stable', 'in the same request');
        }
        $canary->listen->set('reset_body');
        $r = $t->get("/$name");
        isnt($r->error, undef, 'half a body stays half a body');
    };
}

is_deeply([map { $_->{arms}{canary}{broken} }
    @{ $t->get('/status')->json->{rollouts} }{qw(fcgi uwsgi)}], [1, 1],
    'which is a failure of the canary');

subtest 'TLS' => sub {
    is((split ' ', $t->get('/tls?arm=never')->body)[0], 'stable', 'stable');
    is($t->get('/tls')->body, 'canary . ', 'canary: a new session');
    is($t->get('/tls')->body, 'canary r ', 'canary: the session is reused');
    is($t->get('/tls?arm=never')->body, 'stable r ', 'stable: so is its own');
    is($t->get('/tls/once')->body, 'canary . ', 'or not, as configured');

    is($t->get('/tls/verify')->body, 'canary . localhost', 'a good name');
    is($t->get('/tls?fail=c')->body, 'stable r ', 'a bad canary');
    is($t->get('/tls?fail=sc')->status, 503, 'both are bad');

    my $r = $t->get('/tls/wrong');
    is($r->status, 502, 'a wrong name');
    is($r->header('x-served'), 'canary, stable', 'is tried in both arms');

    $r = $t->get('/notls');
    is($r->body, 'stable r ', 'a canary that speaks no TLS');
    is($r->header('x-served'), 'canary, stable', 'is a failed attempt');
    $t->get('/notls') for 1 .. 2;
    is($t->get('/notls')->header('x-served'), 'stable',
        'and after three of them left alone');
};

subtest 'grpc_pass' => sub {
    like($t->get('/grpc?arm=never')->body, qr/^stable/, 'stable');
    like($t->get('/grpc')->body, qr/^canary/, "canary: request $_") for 1 .. 3;

    my $r = $t->get('/grpc?fail=c');
    like($r->body, qr/^stable/, 'a bad canary');
    is($r->header('x-served'), 'canary, stable', 'in the same request');
    is($t->get('/grpc?fail=sc')->status, 503, 'both are bad');

    like($t->get('/nogrpc')->body, qr/^stable/,
        'a canary that speaks no HTTP/2');

    my $arms = $t->get('/status')->json->{rollouts}{grpc}{arms};
    is($arms->{canary}{forced}{failures}, 2, 'two failures, nothing broken');
    is($arms->{canary}{broken} + $arms->{stable}{broken}, 0, 'nothing broken');
};

SKIP: {
    skip('no curl with HTTP/2', 1)
        if !Gate::which('curl') || `curl --version` !~ /HTTP2/;
    my $out = `curl -s --http2-prior-knowledge --max-time 20 \\
        http://127.0.0.1:@{[ $t->port('gc') ]}/x`;
    like($out, qr/^canary/, 'the server for grpc_pass speaks HTTP/2');
}

# Where a composite may stand.

fresh();

for my $uri ('/variable?', '/arg?name=one&') {
    is($t->get("${uri}arm=always")->body, 'c1', "proxy_pass, $uri: canary");
    is($t->get("${uri}arm=never")->body, 's1', 'stable');
    $b{c1}->set(status => 500);
    is($t->get("${uri}arm=always")->body, 's1', 'fallback');
    fresh();
}

subtest 'WebSocket' => sub {
    my @ws = (headers => { Upgrade => 'websocket', Connection => 'upgrade' });

    for my $how ('a good canary', 'a canary that refuses') {
        $b{$_}->set('websocket') for qw(s1 c1);
        $b{c1}->refuse if $how =~ /refuses/;

        my $c = $t->conn;
        my $r = $c->request(GET => '/ws?arm=always', @ws);
        is($r->status, 101, $how);
        is($r->header('x-served'), $how =~ /refuses/ ? 'canary, stable'
            : 'canary', 'arms');

        for my $text (qw(one two)) {
            $c->write($text);
            is($c->read_bytes(3), $text, 'bytes come back');
        }
        $c->close;
        $b{c1}->listen;
    }
    fresh();
};

subtest 'auth_request' => sub {
    my @force = (headers => { 'X-Arm' => 'always' });
    is($t->get('/auth', @force)->body, 'main', 'allowed by the canary');
    is_deeply(asked(), { c1 => 1 }, 'that was asked');

    $b{c1}->set(status => 403);
    is($t->get('/auth', @force)->status, 403, 'refused by it');

    fresh();
    $b{c1}->set(status => 500);
    my $r = $t->get('/auth', @force);
    is($r->status, 200, 'a bad canary: stable is asked');
    is_deeply(asked(), { c1 => 1, s1 => 1 }, 'in the same subrequest');
    is($r->header('x-served'), undef,
        'attempts of a subrequest are not those of the request');
    fresh();
};

subtest 'mirror' => sub {
    is($t->post('/mirror?arm=always', body => 'copied')->body, 'main',
        'the request itself');
    wait_for { $b{c1}->requests } what => 'the copy';
    is($b{c1}->last->{body}, 'copied', 'has its body');

    $b{c1}->set(status => 500);
    is($t->get('/mirror?arm=always')->body, 'main', 'a bad canary');
    wait_for { $b{s1}->requests } what => 'the copy at stable';
    fresh();
};

subtest 'SSI' => sub {
    my $part = '<!--# include virtual="/part?arm=%s" -->';
    $main->set('ok', headers => { 'Content-Type' => 'text/html' },
        body => sprintf("[$part|$part]", 'always', 'never'));

    is($t->get('/ssi')->body, '[c1|c1]',
        'all parts of a page are of one arm, chosen for the first');

    $main->set('ok', headers => { 'Content-Type' => 'text/html' },
        body => sprintf("[$part]", 'always'));
    $b{c1}->set(status => 500);
    is($t->get('/ssi')->body, '[s1]', 'stable, when the canary is bad');
    fresh();
};

subtest 'error_page to another composite' => sub {
    $b{$_}->set(status => 500) for qw(s1 c1);
    my $r = $t->get('/page?arm=always&two=never');
    is($r->body, 'main', 'answers when both arms of the first have failed');
    is($r->header('x-served'), 'canary, stable, stable', 'three attempts');

    $b{c1}->set('ok', body => 'c1');
    $b{c1}->next(status => 500);
    $r = $t->get('/page?arm=always&two=always');
    is($r->body, 'c1', 'each composite has its own choice');
    is($r->header('x-served'), 'canary, stable, canary', 'three attempts');
    fresh();
};

subtest 'X-Accel-Redirect' => sub {
    $b{c1}->on('/accel', 'ok', headers => { 'X-Accel-Redirect' => '/inside' });
    my $r = $t->get('/accel?arm=always');
    is($r->body, 'main', 'to another composite');
    is($r->header('x-served'), 'canary, stable', 'two attempts');
    fresh();
};

subtest 'proxy_cache with the arm in its key' => sub {
    for my $pass ('MISS', 'HIT') {
        for (['always', 'c1'], ['never', 's1']) {
            my ($force, $body) = @$_;
            my $r = $t->get("/cache?arm=$force");
            is_deeply([$r->body, $r->header('x-cache')], [$body, $pass],
                "$force: $pass");
        }
    }
    is_deeply(asked(), { c1 => 1, s1 => 1 }, 'each arm was asked once');
};

my $plain = $t->get('/status')->json->{rollouts}{plain}{arms};
is_deeply([map { $plain->{$_}{attempts} } qw(stable canary)], [0, 0],
    'forced requests are no evidence');
cmp_ok($plain->{canary}{forced}{failures}, '>', 0, 'they are counted apart');

$t->done;
done_testing;
