#!/usr/bin/perl

# What a client is told whose cursor is refused, and what its connection can
# do then.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Gate::Cursor;
use Gate::Rollout;
use Test::More;

my $t = Gate->new;
my $g = Gate::Rollout->new($t);

my $b = $t->backend('ok', body => 'backend');
my $bp = $b->addr;

my $c = Gate::Cursor->new('cursor-test-key-of-more-than-32-bytes');
my $key = $t->write_file('cursor.key', $c->secret . "\n");
chmod 0600, $key or die "chmod $key: $!\n";

my ($crt, $crt_key) = $t->cert;

$t->write_file('html/400.html', "bad cursor\n");
$t->write_file('html/410.html', "old cursor\n");
$t->write_file('html/401.html', "who are you\n");
$t->write_file('html/users', "user:{PLAIN}word\n");
my $pass = "proxy_pass http://$bp;";

$t->http(workers => 1, access => '$request_uri $status $gate_cursor_status',
    <<"EOF_CONF");
    gate_cursor_key file=$key;
    gate_limit_zone one key=\$arg_k rate=1r/h;

    server {
        listen 127.0.0.1:%%PORT:http%%;
        listen 127.0.0.1:%%PORT:h2%% ssl http2;
        ssl_certificate $crt;
        ssl_certificate_key $crt_key;
        root %%DIR%%/html;
@{[ $g->endpoints ]}
        gate_cursor cursor;
        client_max_body_size 1g;

        location / { $pass }
        location /gone/ { gate_cursor cursor expired_status=410; $pass }
        location /page/ {
            gate_cursor cursor expired_status=410;
            error_page 400 /400.html;
            error_page 410 /410.html;
            $pass
        }
        location /page200/ { error_page 400 =200 /400.html; $pass }
        location /named/ { error_page 400 \@named; $pass }
        location \@named { $pass }
        location /named-same/ { error_page 400 = \@named-same; $pass }
        location \@named-same { add_header X-Page 1 always; $pass }
        location /other/ { error_page 410 /410.html; $pass }
        location /redirect/ { error_page 400 http://example.com/; $pass }
        location /html/ { alias %%DIR%%/html/; }
        location = /400.html { }
        location = /410.html { }
        location = /401.html { }

        location /auth/ {
            auth_basic realm;
            auth_basic_user_file %%DIR%%/html/users;
            $pass
        }
        location /auth-page/ {
            auth_basic realm;
            auth_basic_user_file %%DIR%%/html/users;
            error_page 401 /401.html;
            $pass
        }
        location /auth-named/ {
            auth_basic realm;
            auth_basic_user_file %%DIR%%/html/users;
            error_page 401 \@login;
            $pass
        }
        location \@login { gate_cursor header:X-Cursor; $pass }
        location /deny/ { deny all; $pass }
        location /any/ {
            satisfy any;
            deny all;
            auth_basic realm;
            auth_basic_user_file %%DIR%%/html/users;
            $pass
        }
        location /any-allow/ {
            satisfy any;
            allow all;
            auth_basic realm;
            auth_basic_user_file %%DIR%%/html/users;
            $pass
        }
        location /request/ { auth_request /sub; $pass }
        location /request-no/ { auth_request /sub-no; $pass }
        location = /sub { internal; return 204; }
        location = /sub-no { internal; return 403; }
        location /limit/ { gate_limit zone=one headers=ietf; $pass }
        location /return/ { return 202 "returned"; }
    }
EOF_CONF

$t->start;

my $good = $c->issue(40);
my $forged = Gate::Cursor::forged($good);
my $expired = $c->issue(40, age => 3600);
my $wrong = '{"detail":"Invalid cursor: Cursor signature verification failed"}';
my @auth = (headers => [Authorization => 'Basic dXNlcjp3b3Jk']);   # user:word

subtest 'the answer' => sub {
    my $r = $t->get("/?cursor=$forged");

    is($r->status, 400, 'the status');
    is($r->reason, 'Bad Request', 'the reason phrase');
    is($r->body, $wrong, 'the body');
    is($r->header('Content-Type'), 'application/json', 'its type');
    is($r->header('Content-Length'), length $wrong, 'its length');
    is($r->header('Cache-Control'), 'no-store', 'is not to be kept');
    isnt($r->header('Connection'), 'close', 'the connection stays');

    is($t->get("/?cursor=$good")->header('Cache-Control'), undef,
        'those who pass are as ever');

    my %accept = (
        'application/problem+json' => 1,
        'application/json' => 0,
        '*/*' => 0,
        'application/json, application/problem+json;q=0.5' => 0,
        'text/html, application/problem+json;q=0.9, */*;q=0.1' => 1,
    );

    for my $accept (sort keys %accept) {
        $r = $t->get("/?cursor=$forged", headers => [Accept => $accept]);
        is($r->header('Content-Type'), $accept{$accept}
            ? 'application/problem+json' : 'application/json',
            "Accept: $accept");
    }

    my @problem = (headers => [Accept => 'application/problem+json']);
    $r = $t->get("/?cursor=$forged", @problem);
    is_deeply($r->json, { type => 'about:blank', title => 'Bad Request',
        status => 400,
        detail => 'Invalid cursor: Cursor signature verification failed' },
        'RFC 9457');

    $r = $t->get("/gone/?cursor=$expired", @problem);
    is($r->status, 410, 'expired_status=410');
    is($r->reason, 'Gone', 'the reason phrase');
    is($r->json->{status}, 410, 'also in the body');
    is($r->json->{title}, 'Gone', 'with its title');
    like($r->json->{detail},
        qr/^Invalid cursor: Cursor expired \(age: 36\d\d\.\ds, TTL: 600s\)$/,
        'and text');

    $r = $t->request(HEAD => "/?cursor=$forged");
    is($r->status, 400, 'HEAD');
    is($r->body, '', 'without a body');
    is($r->header('Content-Length'), length $wrong, 'but with its length');

    $r = $t->get("/?cursor=$forged", version => '1.0');
    is($r->status . $r->body, "400$wrong", 'HTTP/1.0');

    $r = $t->get('/?cursor=%22%3Cscript%3E%0d%0aX-A:%20b');
    is($r->status, 400, 'bytes of the client');
    unlike($r->as_text, qr/script|X-A/i, 'are not sent back');
};

subtest 'error pages' => sub {
    my $r = $t->get("/page/?cursor=$forged");
    is($r->status, 400, 'error_page 400: the status');
    is($r->body, "bad cursor\n", 'the page');
    is($r->header('Cache-Control'), 'no-store', 'and the header');

    $r = $t->get("/page/?cursor=$expired");
    is($r->status . $r->body, "410old cursor\n", 'error_page 410');

    is($t->get("/page200/?cursor=$forged")->status, 200, 'another status');

    $r = $t->get("/named/?cursor=$forged");
    is($r->status . $r->body, '400backend',
        'a named location that goes to a backend');

    $r = $t->get("/named-same/?cursor=$forged");
    is($r->status . $r->body . $r->header('X-Page'), '200backend1',
        'and answers as it likes');

    is($t->get("/other/?cursor=$forged")->body, $wrong,
        'an error_page for another status is not meant');

    $r = $t->get("/redirect/?cursor=$forged");
    is($r->status . ' ' . $r->header('Location'), '302 http://example.com/',
        'a redirect');

    my $s = $g->status->{cursors};
    is($s->{"_$_"}{refused}, 1,
        "$_ was counted once")
        for qw(/named/ /named-same/ /page200/ /redirect/);
    is($s->{"_$_"}{requests}, 0, "$_ was not asked")
        for qw(@named @named-same /400.html /410.html);
};

subtest 'who may ask at all' => sub {
    for my $place ('/auth/', '/any/') {
        is($t->get("$place?cursor=$forged")->status, 401,
            "$place: 401 comes before 400");
        is($t->get("$place?cursor=$forged", @auth)->status, 400,
            "$place: and 400 after it");
        is($t->get("$place?cursor=$good", @auth)->status, 200,
            "$place: a genuine one");
        is($t->get("$place?cursor=$good")->status, 401,
            "$place: which lets nobody in");
    }

    my $r = $t->get("/auth-page/?cursor=$forged");
    is($r->status . $r->body, "401who are you\n", 'the page of a 401');
    $r = $t->get("/auth-named/?cursor=$forged",
        headers => ['X-Cursor' => $forged]);
    is($r->status . $r->body, '401backend', 'a named page of a 401');

    is($t->get("/any-allow/?cursor=$forged")->status, 400,
        'satisfy any overrules nothing');
    is($t->get("/any-allow/?cursor=$good")->status, 200,
        'satisfy any, a genuine one');
    is($t->get("/deny/?cursor=$forged")->status, 403, '403 comes before 400');
    is($t->get("/request-no/?cursor=$forged")->status, 403,
        'auth_request: 403 comes before 400');
    is($t->get("/request/?cursor=$forged")->status, 400,
        'auth_request: 400 after it');
    is($t->get("/request/?cursor=$good")->status, 200,
        'auth_request: a genuine one');

    is($t->get("/limit/?k=a&cursor=$forged")->status, 400,
        'a limit is asked first');
    $r = $t->get("/limit/?k=a&cursor=$forged");
    is($r->status, 429, 'and was charged');
    is($t->get("/return/?cursor=$forged")->body, 'returned',
        '"return" answers before all that');

    my $n = $g->status->{cursors}{'_/deny/'}{requests};
    is($n, 0, 'who is refused before is not counted');
};

subtest 'bodies that nobody reads, and connections that go on' => sub {
    my $conn = $t->conn;
    my $body = 'x' x 100_000;
    my $asked = $b->requests;

    for my $n (1 .. 3) {
        $conn->write("POST /?cursor=$forged HTTP/1.1\r\nHost: a\r\n"
            . 'Content-Length: ' . length($body) . "\r\n\r\n$body");
        is($conn->recv->status, 400, "POST $n with a body, on one connection");
    }

    $conn->write("POST /?cursor=$forged HTTP/1.1\r\nHost: a\r\n"
        . "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
    is($conn->recv->status, 400, 'a chunked one');

    is($b->requests, $asked, 'the service was not asked');

    $conn->write("GET /?cursor=$good HTTP/1.1\r\nHost: a\r\n\r\n");
    is($conn->recv->status, 200, 'and then something else');
    $conn->close;

    $conn = $t->conn;
    $conn->write("POST /?cursor=$forged HTTP/1.1\r\nHost: a\r\n"
        . "Expect: 100-continue\r\nContent-Length: 1000000\r\n\r\n");
    is($conn->read_bytes(12), 'HTTP/1.1 400',
        'who asks first is told not to send');
    $conn->close;

    $conn = $t->conn;
    $conn->write(join '', map { "GET /?cursor=$_ HTTP/1.1\r\nHost: a\r\n\r\n" }
        $good, $forged, '', 'x', $good);
    is(join(' ', map { $conn->recv->status } 1 .. 5), '200 400 200 400 200',
        'pipelined requests');
    $conn->close;
};

SKIP: {
    skip_unless_cmd('curl', 4);

    my $port = $t->port('h2');
    my $curl = sub {
        my (@args) = @_;
        open my $fh, '-|', 'curl', '-sk', '--http2', '-i', '-m', 10, @args
            or die "curl: $!\n";
        local $/;
        my $out = <$fh>;
        close $fh;
        return $out;
    };

    skip 'curl without HTTP/2', 4
        if $curl->("https://127.0.0.1:$port/?cursor=$good")
            !~ m{^HTTP/2 200}i;

    my $out = $curl->("https://127.0.0.1:$port/?cursor=$forged");
    like($out, qr{^HTTP/2 400}i, 'HTTP/2');
    like($out, qr/^cache-control: no-store\r$/mi, 'has the header');
    like($out, qr/\Q$wrong\E$/, 'and the body');

    my $file = $t->write_file('upload', 'x' x 300_000);
    like($curl->('--data-binary', "\@$file",
        "https://127.0.0.1:$port/?cursor=$forged"), qr{^HTTP/2 400}i,
        'with a body that nobody reads');
}

# the log phase knows it, also where a page was sent

like(Gate::slurp($t->dir . '/access.log'), qr/\Q$_\E$/m, $_) for
    "/page/?cursor=$forged 400 bad_signature",
    "/page200/?cursor=$forged 200 bad_signature",
    "/named/?cursor=$forged 400 bad_signature",
    "/gone/?cursor=$expired 410 expired";

$t->done;
done_testing;
