#!/usr/bin/perl

# Maintenance: who is asked, when, and what the refused are told.

use strict;
use warnings;
use utf8;

use FindBin;
use lib "$FindBin::Bin/lib";

use Encode qw(encode_utf8);
use Gate;
use JSON::PP ();
use Test::More;
use Time::HiRes qw(time);

my $t = Gate->new;
my $token = 'maintenance-test-token';

chmod 0600, $t->write_file('token', "ops $token\n");
$t->write_file('html/index.html', "index\n");
$t->write_file('html/file.txt', "file\n");
$t->write_file('html/sorry.html', "sorry page\n");
$t->write_file("html/at.html", "at sorry\n");
$t->write_file('html/ssi.html', qq{<!--#include virtual="/part/" -->\n});

my $b = $t->backend('ok', body => 'backend', name => 'b');
my $bp = $b->addr;

# answers that send nginx on to another location

my $accel = $t->backend('ok', body => '', name => 'accel',
    headers => [['X-Accel-Redirect', '/inner/']]);

$t->http(workers => 1, <<"EOF");
    map \$http_x_operator \$operator { default 0; yes 1; }
    map \$http_x_value \$value { default \$http_x_value; }
    geo \$office { default 0; 127.0.0.2 1; }

    gate_maintenance on;

    # inherited from http{}

    server {
        listen 127.0.0.1:%%PORT:http%%;
        root %%DIR%%/html;

        location / { return 200 "open\\n"; }
        location /shop/ { gate_maintenance shop; return 200 "shop\\n"; }
        location /shop/free/ { gate_maintenance off; return 200 "free\\n"; }
        location /legal/ { gate_maintenance off; return 200 "legal\\n"; }

        location /rewrite/ { rewrite ^ /legal/ last; }
        location /static/ { alias %%DIR%%/html/; }
        location /try/ { try_files /file.txt =404; }
        location /proxy/ { proxy_pass http://$bp; }
        location /accel/ { proxy_pass http://@{[ $accel->addr ]}/; }
        location /inner/ { internal; return 200 "inner\\n"; }
        location /error/ { error_page 404 /after; return 404; }
        location /large/ { client_max_body_size 10; error_page 413 = \@large;
            return 200 "large\\n"; }
        location \@large { proxy_pass http://$bp; }
        location /named/ { try_files /nowhere \@named; }
        location \@named { return 200 "named\\n"; }
        location /auth/ { auth_request /check/; alias %%DIR%%/html/; }
        location /check/ { internal; return 204; }
        location /mirror/ { mirror /mirrored/; alias %%DIR%%/html/; }
        location /mirrored/ { internal; proxy_pass http://$bp/mirrored; }
        location /ssi/ { ssi on; alias %%DIR%%/html/; }
        location /part/ { return 200 "part"; }

        # a request that begins where nobody looks stays free

        location /free/ {
            gate_maintenance off;
            location /free/error/ { error_page 404 /open/; return 404; }
            location /free/try/ { try_files /nowhere /open/; }
            location /free/named/ { try_files /nowhere \@named; }
            location /free/accel/ { proxy_pass http://@{[ $accel->addr ]}/; }
            location /free/rewrite/ { rewrite ^ /open/ last; }
            location /free/ssi/ { ssi on; alias %%DIR%%/html/; }
            location /free/auth/ { auth_request /check/; alias %%DIR%%/html/; }
            location /free/mirror/ { mirror /mirrored/; alias %%DIR%%/html/; }
        }

        location /health { gate_health; }
        location /ready { gate_health ready; }
        location /metrics { gate_metrics; }
        location /gate { gate_status; }
        location /gate/api/ { gate_api token_file=%%DIR%%/token; }

        location /by/map/ { gate_maintenance_bypass \$operator;
            return 200 "open\\n"; }
        location /by/geo/ { gate_maintenance_bypass \$operator \$office;
            return 200 "open\\n"; }
        location /by/value/ { gate_maintenance_bypass \$value;
            return 200 "open\\n"; }
    }

    # not governed at all: the server says "off"

    server {
        listen 127.0.0.1:%%PORT:off%%;
        gate_maintenance off;
        location / { return 200 "off\\n"; }
        location /on/ { gate_maintenance on; return 200 "on\\n"; }
    }

    # all of its locations agree

    server {
        listen 127.0.0.1:%%PORT:agree%%;
        gate_maintenance shop;
        rewrite ^/moved /elsewhere permanent;
        if (\$arg_return) { return 200 "server\\n"; }
        location / { root %%DIR%%/html; }
        location /x/ { return 200 "x\\n"; }
    }

    # they do not: its "return" comes first

    server {
        listen 127.0.0.1:%%PORT:differ%%;
        gate_maintenance shop;
        if (\$arg_return) { return 200 "server\\n"; }
        location / { return 200 "open\\n"; }
        location /legal/ { gate_maintenance off; return 200 "legal\\n"; }
    }

    # pages of the operator

    server {
        listen 127.0.0.1:%%PORT:page%%;
        root %%DIR%%/html;
        error_page 503 /sorry.html;

        location / { return 200 "open\\n"; }
        location /ok/ { error_page 503 =200 /sorry.html; return 200 "open\\n"; }
        location /at/ { error_page 503 \@sorry; return 200 "open\\n"; }
        location /proxy/ { error_page 503 /backend; return 200 "open\\n"; }
        location /other/ { error_page 404 /sorry.html; return 200 "open\\n"; }
        location /again/ { recursive_error_pages on;
            error_page 503 /sorry.html; return 200 "open\\n"; }
        location = /backend { proxy_pass http://$bp; }
        location = /sorry.html { }
        location \@sorry { rewrite ^ /at.html break; }
    }

    server {
        listen 127.0.0.1:%%PORT:pages%%;
        root %%DIR%%/html;
        location / { return 200 "open\\n"; }
        location = /sorry.html { }
        location /page/ { error_page 503 /sorry.html; return 200 "open\\n"; }
    }
EOF

$t->start;

sub call {
    my ($method, $path, $body) = @_;

    return $t->request($method => "/gate/api/$path",
        headers => { Authorization => "Bearer $token",
            'Content-Type' => 'application/json' },
        defined $body ? (body => JSON::PP->new->utf8->allow_nonref
            ->encode($body)) : ());
}

sub set {
    my ($value, $switch) = @_;
    my $r = call(POST => 'maintenance' . ($switch ? "/$switch" : ''), $value);
    die $r->as_text . ': ' . $r->body unless $r->status == 200;
}

sub on { set({ on => JSON::PP::true, %{ $_[0] || {} } }, $_[1]) }
sub off { call(DELETE => 'maintenance' . ($_[0] ? "/$_[0]" : '')) }

sub status_of {
    my ($uri, %opt) = @_;
    return $t->get($uri, %opt)->status;
}

subtest 'a switch that is open stops nobody' => sub {
    is(status_of($_), 200, $_)
        for qw(/ /shop/ /shop/free/ /legal/ /rewrite/ /try/ /proxy/ /static/);
};

subtest 'the global switch stops all that are under any switch' => sub {
    on();
    is(status_of($_), 503, $_) for qw(/ /shop/);
    is(status_of($_), 200, $_) for qw(/shop/free/ /legal/);
    is(status_of('/', port => 'off'), 200, 'a server that is exempt');
    is(status_of('/on/', port => 'off'), 503, 'a location of it that is not');
    off();
    is(status_of('/'), 200, 'open again');
};

subtest 'a named switch stops its own locations only' => sub {
    on({}, 'shop');
    is(status_of('/shop/'), 503, 'its location');
    is(status_of($_), 200, $_) for qw(/ /shop/free/ /legal/);
    is(status_of('/', port => 'agree'), 503, 'its server');
    off('shop');
};

subtest 'the answer is 503 with Retry-After and is not to be stored' => sub {
    on();
    my $r = $t->get('/');
    is($r->status, 503, 'status');
    is_deeply([ $r->header_all('retry-after') ], [60], 'Retry-After');
    is_deeply([ $r->header_all('cache-control') ], ['no-store'],
        'Cache-Control');
    like($r->header('content-type'), qr{^application/json}, 'type');
    is_deeply($r->json, { detail => 'Service under maintenance' }, 'body');
    off();
};

subtest 'Retry-After comes from until, else from retry_after' => sub {
    on({ retry_after => 17 });
    is($t->get('/')->header('retry-after'), 17, 'retry_after');

    on({ retry_after => 17, until => time() + 1000 | 0 });
    my $s = $t->get('/')->header('retry-after');
    cmp_ok($s, '<=', 1000, 'until: at most');
    cmp_ok($s, '>', 900, 'until: at least');

    on({ ttl => 500 });
    $s = $t->get('/')->header('retry-after');
    ok($s <= 500 && $s > 400, 'ttl');
    off();
};

subtest 'browsers get HTML, everybody else JSON' => sub {
    on();
    my %html = (
        'text/html,application/xhtml+xml,*/*;q=0.8' => 1,
        'text/html' => 1,
        'text/html;q=0.5, application/json' => 0,
        'application/json' => 0,
        '*/*' => 0,
        'image/png' => 0,
    );

    for my $accept (sort keys %html) {
        my $r = $t->get('/', headers => { Accept => $accept });
        is($r->status, 503, "$accept: status");
        like($r->header('content-type'),
            $html{$accept} ? qr{^text/html; charset=utf-8$}
                           : qr{^application/json$}, "$accept: type");
    }

    off();
};

subtest 'the message is escaped for what it is put into' => sub {
    my $message = qq{<script>alert("1")</script> & 'x' \\ — schön};
    on({ message => $message });

    is($t->get('/')->json->{detail}, $message, 'JSON');

    my $body = $t->get('/', headers => { Accept => 'text/html' })->body;
    unlike($body, qr/<script|"1"|'x'/, 'no markup of the message');
    like($body, qr/&lt;script&gt;alert\(&quot;1&quot;\)/, 'but its text');
    like($body, qr/\Q@{[ encode_utf8('— schön') ]}\E/, 'and its UTF-8');
    off();
};

subtest 'HEAD gets the head of what GET gets' => sub {
    on();
    my ($head, $get) = map { $t->request($_ => '/') } qw(HEAD GET);
    is($head->status, 503, 'status');
    is($head->body, '', 'no body');
    is($head->header('retry-after'), 60, 'Retry-After');
    is($head->header('content-length'), length $get->body, 'length');
    off();
};

subtest "the operator's error_page wins" => sub {
    on();

    for (['/', 503, "sorry page\n"], ['/ok/', 200, "sorry page\n"],
        ['/at/', 503, "at sorry\n"], ['/proxy/', 503, 'backend'],
        ['/again/', 503, "sorry page\n"])
    {
        my ($uri, $status, $body) = @$_;
        my $r = $t->get($uri, port => 'page');
        is($r->status, $status, "$uri: status");
        is($r->body, $body, "$uri: body");
        is_deeply([ $r->header_all('retry-after') ], [60],
            "$uri: Retry-After");
        is_deeply([ $r->header_all('cache-control') ], ['no-store'],
            "$uri: Cache-Control");
    }

    my $r = $t->get('/other/', port => 'page');
    is($r->status, 503, 'a page for something else: status');
    is(($r->json || {})->{detail}, 'Service under maintenance',
        'a page for something else: our answer');
    off();
};

subtest 'an error_page of a location counts, the server having none' => sub {
    on();
    is($t->get('/', port => 'pages')->json->{detail},
        'Service under maintenance', 'elsewhere: our answer');
    my $r = $t->get('/page/', port => 'pages');
    is($r->body, "sorry page\n", 'there: its page');
    is($r->header('retry-after'), 60, 'Retry-After');
    off();
};

subtest 'it comes before return, rewrite, try_files, files and proxy' => sub {
    on();
    is(status_of($_), 503, $_) for qw(/ /rewrite/ /try/ /static/file.txt
        /proxy/ /error/ /named/ /accel/ /auth/file.txt /mirror/file.txt
        /ssi/ssi.html);
    off();
};

subtest 'a return of the server is stopped where its locations agree' => sub {
    my %r = map { $_ => '/?return=1' } qw(agree differ);
    is($t->get($r{$_}, port => $_)->body, "server\n", "$_: open") for keys %r;

    on({}, 'shop');
    is(status_of($r{agree}, port => 'agree'), 503, 'agree: return');
    is(status_of('/moved', port => 'agree'), 503, 'agree: rewrite');
    is(status_of($r{differ}, port => 'differ'), 200, 'differ: return');
    is(status_of('/', port => 'differ'), 503, 'differ: location');
    is(status_of('/legal/', port => 'differ'), 200, 'differ: exempt');
    off('shop');
};

subtest 'endpoints stay open' => sub {
    on();
    is(status_of($_), 200, $_) for qw(/health /metrics /gate);
    is(call(GET => 'status')->status, 200, 'api');
    is(status_of('/ready'), 503, 'ready tells');
    off();
};

subtest 'a request that began in an exempt location stays free' => sub {
    on();

    for (['/free/error/', 200, "open\n"], ['/free/try/', 200, "open\n"],
        ['/free/named/', 200, "named\n"], ['/free/accel/', 200, "inner\n"],
        ['/free/rewrite/', 200, "open\n"], ['/free/ssi/ssi.html', 200,
            "part\n"], ['/free/auth/file.txt', 200, "file\n"],
        ['/free/mirror/file.txt', 200, "file\n"])
    {
        my ($uri, $status, $body) = @$_;
        my $r = $t->get($uri);
        is($r->body, $body, $uri);
    }

    off();
};

subtest 'an error that comes before the question is no way in' => sub {
    my $send = sub { $t->post('/large/', body => 'x' x 20) };
    is($send->()->body, 'backend', 'open: the error page is a backend');

    on();
    my $n = $b->requests;
    my $r = $send->();
    is($r->status, 503, 'closed');
    is($r->header('retry-after'), 60, 'Retry-After');
    is($r->json->{detail}, 'Service under maintenance', 'our answer');
    is($b->requests, $n, 'the backend has seen nobody');
    off();
};

subtest 'a request is asked once, however far it is sent on' => sub {
    my $count = sub {
        my $s = $t->get('/gate')->json->{maintenance}{global};
        return [ @$s{qw(admitted_total refused_total)} ];
    };

    for my $uri (qw(/error/ /named/ /accel/ /auth/file.txt /mirror/file.txt
        /ssi/ssi.html /rewrite/ /try/))
    {
        my $before = $count->();
        $t->get($uri);
        is_deeply($count->(), [ $before->[0] + 1, $before->[1] ],
            "$uri: admitted once");
    }

    on();
    my $before = $count->();
    $t->get($_, port => 'page') for qw(/ /at/ /again/ /ok/ /proxy/);
    is_deeply($count->(), [ $before->[0], $before->[1] + 5 ],
        'refused once, with its error page');
    off();
};

subtest 'read_only lets readers in' => sub {
    on({ read_only => JSON::PP::true });
    my $r;
    is($t->request($_ => '/')->status, 200, $_) for qw(GET OPTIONS);
    is($t->request(HEAD => '/')->status, 200, 'HEAD');
    is(($r = $t->request($_ => '/', body => 'x'))->status, 503, $_)
        for qw(POST PUT DELETE PATCH);
    is($r->header('retry-after'), 60, 'Retry-After');

    on({}, 'shop');
    is(status_of('/shop/'), 503, 'a switch that is closed altogether wins');
    off('shop');
    off();
};

subtest 'a bypass is a value that is neither empty nor 0' => sub {
    on();
    is(status_of('/by/map/'), 503, 'map: nobody');
    is(status_of('/by/map/', headers => { 'X-Operator' => 'yes' }), 200,
        'map: operator');
    is(status_of('/by/geo/'), 503, 'geo: elsewhere');
    is(status_of('/by/geo/', headers => { 'X-Operator' => 'yes' }), 200,
        'the first of two values');

    my %pass = ('' => 503, 0 => 503, 1 => 200, 00 => 503, '00' => 200,
        '0.0' => 200, no => 200, ' ' => 503);

    for my $value (sort keys %pass) {
        is(status_of('/by/value/', headers => { 'X-Value' => $value }),
            $pass{$value}, "'$value'");
    }

    is(status_of('/', headers => { 'X-Operator' => 'yes' }), 503,
        'a location without it');
    off();
};

subtest 'the address may bypass' => sub {
    require IO::Socket::INET;
    on();

    for (['127.0.0.1', 503], ['127.0.0.2', 200]) {
        my ($from, $status) = @$_;
        my $sock = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
            PeerPort => $t->port, LocalAddr => $from, Timeout => 10)
            or die "connect from $from: $!";
        print $sock "GET /by/geo/ HTTP/1.0\r\n\r\n";
        like(join('', <$sock>), qr{^HTTP/1\.1 $status }, $from);
    }

    off();
};

subtest 'a window begins and ends by itself' => sub {
    my $from = int(time) + 2;
    on({ from => $from, until => $from + 2 });
    is(status_of('/'), 200, 'before it');

    my ($begun, $ended);
    wait_for { status_of('/') == 503 } what => 'the window to begin';
    $begun = time;
    wait_for { status_of('/') == 200 } what => 'the window to end';
    $ended = time;

    cmp_ok($begun, '>=', $from, 'not before it should');
    cmp_ok($ended, '>=', $from + 2, 'not before its end');
    note(sprintf 'began %.2f s, ended %.2f s late', $begun - $from,
        $ended - $from - 2);
    cmp_ok($begun - $from, '<', 2 * Gate::scale(), 'soon');
    off();

    set({ ttl => 1 });
    is(status_of('/'), 503, 'ttl: closed');
    wait_for { status_of('/') == 200 } what => 'the ttl to end';
    pass('ttl: open');
};

subtest 'a large body is refused and the connection goes on' => sub {
    on();
    my $c = $t->conn;
    my $r = $c->request(POST => '/proxy/', body => 'x' x 300_000);
    is($r->status, 503, 'refused');
    is($c->request(GET => '/legal/')->body, "legal\n", 'the next request');

    $r = $c->request(POST => '/proxy/', headers => ['Transfer-Encoding' =>
        'chunked'], body => "5\r\nGET /\r\n0\r\n\r\n");
    is($r->status, 503, 'a chunked one');
    is($c->request(GET => '/legal/')->body, "legal\n", 'the next request');
    off();
};

subtest 'nobody is invited to send a body that is refused' => sub {
    on();
    my $c = $t->conn;
    $c->write("POST /proxy/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
        . "Expect: 100-continue\r\n\r\n");
    my $head = $c->read_bytes(12);
    is($head, 'HTTP/1.1 503', 'the answer comes at once');
    $c->close;

    $c = $t->conn;
    my $r = $c->request(POST => '/proxy/', headers => { Expect =>
        '100-continue' }, body => 'GET /legal/ HTTP/1.1');
    is($r->status, 503, 'a client that does not wait');
    is($c->request(GET => '/legal/')->body, "legal\n", 'the next request');
    off();
};

subtest 'pipelined requests are answered in order' => sub {
    on();
    my $answer = $t->raw(join('', map {
        "GET $_ HTTP/1.1\r\nHost: x\r\n\r\n" } qw(/ /legal/ /shop/))
        . "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
        . "GET /legal/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    is_deeply([ $answer =~ m{^HTTP/1\.1 (\d+)}mg ], [503, 200, 503, 503, 200],
        'status');
    off();
};

SKIP: {
    my $curl = skip_unless_cmd('curl', 1);

    subtest 'HTTP/2' => sub {
        plan skip_all => 'curl has no HTTP/2'
            unless `$curl --version` =~ /HTTP2/;

        my ($code, $out) = $t->test_http(
            "server { listen 127.0.0.1:%%PORT:h2%% http2; }");
        plan skip_all => 'nginx has no HTTP/2' if $code;

        my $h2 = Gate->new;
        $h2->write_file('html/closed', '');
        $h2->http(workers => 1, <<"EOF");
    gate_maintenance_file %%DIR%%/html/closed;
    server {
        listen 127.0.0.1:%%PORT:http%% http2;
        gate_maintenance on;
        location / { proxy_pass http://$bp; }
        location /legal/ { gate_maintenance off; return 200 "legal\\n"; }
    }
EOF
        $h2->start;

        my $url = 'http://127.0.0.1:' . $h2->port;
        my $run = "$curl -sS --http2-prior-knowledge -m 20";

        my $got = `$run -i $url/`;
        like($got, qr{^HTTP/2 503 }, 'GET');
        like($got, qr/^retry-after: 60\r$/m, 'Retry-After');

        SKIP: {
            my $nghttp = skip_unless_cmd('nghttp', 1);
            my $file = $h2->write_file('body', 'x' x 300_000);
            $got = `$nghttp -v -t 20 -d $file $url/ $url/legal/ 2>&1`;
            is_deeply([ sort $got =~ /:status: (\d+)/g ], [200, 503],
                'POST of a large body, and another stream');
        }
        $h2->done;
    };
}

$t->done;
done_testing;
