#!/usr/bin/perl

# A request does not stay where it came in: what is verified then, and what is
# counted.  And variables are asked before it is known where it ends.

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

my $b = $t->backend('echo');
my $bp = $b->addr;
my $mirror = $t->backend('ok');
my $mp = $mirror->addr;
my $hold = $t->backend('hold');
my $hp = $hold->addr;
my $accel = $t->backend(sub {
    my ($req) = @_;
    my ($to) = $req->{uri} =~ /to=(.*)/;
    $to =~ s/%([0-9a-f]{2})/chr hex $1/gie;
    return { status => 200, headers => [['X-Accel-Redirect', $to]] };
});
my $ap = $accel->addr;

my $c = Gate::Cursor->new('cursor-test-key-of-more-than-32-bytes');
my $two = Gate::Cursor->new('another-cursor-key-of-more-than-32-bytes');

sub key_file {
    my ($name, $key) = @_;
    my $file = $t->write_file($name, $key->secret . "\n");
    chmod 0600, $file or die "chmod $file: $!\n";
    return $file;
}

my $key = key_file('one.key', $c);
my $key2 = key_file('two.key', $two);

$t->write_file('html/file', "file\n");
$t->write_file('html/dir/index.html', "index\n");
$t->write_file('html/400.html', "bad cursor\n");
$t->write_file('html/502.html', "gone fishing\n");

my $pass = "proxy_pass http://$bp;";
my $dead = $t->port('nobody');

$t->http(workers => 1, access => '$request_uri $status $gate_cursor_status',
    <<"EOF_CONF");
    gate_cursor_key file=$key id=one;
    gate_limit_zone by_user key=\$gate_cursor_claim_offset rate=1r/h;

    map \$gate_cursor_status \$is_bad { default 0; bad_signature 1; }

    add_header X-Status \$gate_cursor_status always;

    server {
        listen 127.0.0.1:%%PORT:http%%;
        root %%DIR%%/html;
        gate_cursor cursor;
@{[ $g->endpoints ]}

        location / { $pass }

        # files
        location = /file { }
        location /dir/ { }
        location /try/ { try_files \$uri /tried/?\$args; }
        location /tried/ { $pass }
        location /try-none/ { try_files \$uri /tried/; }
        location /try-args/ { try_files \$uri /tried/?cursor=\$arg_c; }
        location /try-app/ { try_files \$uri \@app; }
        location \@app {
            proxy_set_header X-Offset \$gate_cursor_claim_offset;
            $pass
        }
        location /try-off/ { try_files \$uri \@off; }
        location \@off {
            gate_cursor off;
            proxy_set_header X-Offset \$gate_cursor_claim_offset;
            proxy_set_header X-Key-Id \$gate_cursor_key_id;
            $pass
        }
        location /try-two/ { try_files \$uri \@two; }
        location \@two { gate_cursor_key file=$key2 id=two; $pass }
        location /try-short/ {
            gate_cursor cursor ttl=1h;
            try_files \$uri \@app;
        }

        # errors that hand on
        location /service/ {
            gate_cursor off;
            error_page 404 = \@service;
        }
        location \@service { gate_cursor cursor ttl=5m; $pass }
        location /service-404/ {
            gate_cursor off;
            error_page 404 \@service;
        }
        location /fallback/ {
            error_page 502 = \@app;
            proxy_pass http://127.0.0.1:$dead;
        }
        location /page/ {
            error_page 502 /502.html;
            proxy_pass http://127.0.0.1:$dead;
        }
        location = /502.html { }
        location /recursive/ {
            recursive_error_pages on;
            gate_cursor header:X-Cursor;
            error_page 400 /recursive/400.html;
            location = /recursive/400.html { alias %%DIR%%/html/400.html; }
            $pass
        }
        location /accel/ { proxy_pass http://127.0.0.1:@{[ $accel->port ]}; }
        location /internal/ { internal; $pass }

        location /post/ {
            gate_cursor off;
            post_action \@post;
            $pass
        }
        location \@post { gate_cursor cursor ttl=5m; $pass }

        # subrequests
        location /mirror/ {
            mirror /mirrored;
            $pass
        }
        location /mirror-nobody/ {
            mirror /mirrored;
            mirror_request_body off;
            $pass
        }
        location = /mirrored { internal; proxy_pass http://$mp/\$request_uri; }
        location /auth/ { auth_request /sub; $pass }
        location = /sub {
            internal;
            proxy_pass http://$mp;
            proxy_pass_request_body off;
            proxy_set_header Content-Length "";
            proxy_set_header X-Cursor-Status \$gate_cursor_status;
        }

        # queries that change
        location /rewrite/ { rewrite ^ /rewritten?cursor=\$arg_c? last; }
        location /break/ { rewrite ^ /broken?cursor=\$arg_c? break; $pass }
        location /rewrite-keep/ { rewrite ^ /rewritten last; }
        location /set/ { set \$args "cursor=\$arg_c"; $pass }
        location /set-empty/ { set \$args ""; $pass }
        location /set-late/ { try_files /nothing \@set; }
        location \@set { set \$args "cursor=\$arg_c"; $pass }
        location /set-if/ { if (\$arg_x) { set \$args "a=b"; } $pass }

        # variables that are asked early
        location /limit/ { gate_limit zone=by_user headers=off; $pass }
        location /return/ { if (\$is_bad) { return 403; } $pass }
        location /self/ {
            gate_cursor_claim offset \$gate_cursor_claim_offset;
            $pass
        }
        location /self-when/ {
            gate_cursor cursor when=\$gate_cursor_status;
            $pass
        }
        location /hold/ {
            add_header X-Offset \$gate_cursor_claim_offset always;
            add_header X-Status \$gate_cursor_status always;
            proxy_pass http://$hp;
        }
    }

    server {
        listen 127.0.0.1:%%PORT:early%%;
        gate_cursor cursor;
        set \$early \$gate_cursor_status;
        add_header X-Early \$early always;
        add_header X-Status \$gate_cursor_status always;

        location / { $pass }
        location /two/ { gate_cursor_key file=$key2 id=two; $pass }
        location /off/ { gate_cursor off; $pass }
        location /route/ { set \$route a; gate_cursor_claim route \$route; $pass }
        location /when/ { set \$w 1; gate_cursor cursor when=\$w; $pass }
    }

    server {
        listen 127.0.0.1:%%PORT:early2%%;
        set \$early \$gate_cursor_status;
        add_header X-Early \$early always;
        add_header X-Status \$gate_cursor_status always;
        gate_cursor cursor when=\$w;
        gate_cursor_claim route \$route;
        location / { set \$w 1; set \$route a; $pass }
        location ~ ^/x { $pass }
    }

    server {
        listen 127.0.0.1:%%PORT:early3%%;
        set \$early \$gate_cursor_status;
        add_header X-Early \$early always;
        add_header X-Status \$gate_cursor_status always;
        gate_cursor cursor;
        gate_cursor_claim route \$route;
        location / { set \$route a; $pass }
    }

    server {
        listen 127.0.0.1:%%PORT:early4%%;
        set \$early \$gate_cursor_status;
        gate_cursor cursor;
        location /asked/ {
            gate_cursor cursor ttl=1h;
            try_files /nothing /asked/two/?q=1&\$args;
            location /asked/two/ { $pass }
        }
        location /observed/ {
            gate_cursor cursor mode=observe;
            try_files /nothing /observed/two/?q=1&\$args;
            location /observed/two/ { $pass }
        }
    }
EOF_CONF

$t->start;

# What a request adds to the counters, as "/try/ valid, @two bad_signature
# refused"; and its answer.

sub counters {
    my $cursors = $g->status->{cursors};
    my %n;

    for my $name (keys %$cursors) {
        my $o = $cursors->{$name};
        (my $short = $name) =~ s/^_//;
        $n{"$short $_"} = $o->{status}{$_} for keys %{ $o->{status} };
        $n{"$short refused"} = $o->{refused};
        $n{"$short verified"} = $o->{verify_us}{count};
    }

    return \%n;
}

sub counted {
    my ($want, $name, $uri, @opt) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my $then = counters();
    my $r = ref $uri ? $uri->() : $t->get($uri, @opt);
    my $now = counters();

    my $got = join ', ', map {
        my $d = $now->{$_} - ($then->{$_} // 0);
        $d == 0 ? () : $d == 1 ? $_ : "$d x $_"
    } grep { !/verified$/ } sort keys %$now;

    is($r->status . ($got eq '' ? '' : ": $got"), $want, $name);

    return $r;
}

my $good = $c->issue(40);
my $forged = Gate::Cursor::forged($good);
my $other = $two->issue(40);
my $mid = $c->issue(40, age => 420);
my $late = $c->issue(40, age => 1800);

subtest 'files' => sub {
    counted('400: /file bad_signature, /file refused',
        'a file is not served', "/file?cursor=$forged");
    counted('200: /file valid', 'but with a genuine one',
        "/file?cursor=$good");
    counted('200: /dir/ valid', 'an index is counted once',
        "/dir/?cursor=$good");
    counted('400: /dir/ bad_signature, /dir/ refused', 'nor is an index',
        "/dir/?cursor=$forged");
};

subtest 'try_files' => sub {
    my $r = counted('200: /try/ valid', 'to a location of the same rules',
        "/try/x?cursor=$good");
    is($r->json->{uri}, "/tried/?cursor=$good", 'goes there');

    counted('400: /try/ bad_signature, /try/ refused', 'is refused before',
        "/try/x?cursor=$forged");
    counted('200: /try/ absent', 'without a cursor', '/try/x');
    counted('200: /try-none/ valid', 'the query may be lost on the way',
        "/try-none/x?cursor=$good");
    counted('200: /try-args/ absent', 'another cursor is verified',
        "/try-args/x?c=$good");
    counted('400: /tried/ bad_signature, /tried/ refused, /try-args/ absent',
        'and refused', "/try-args/x?c=$forged");

    $r = counted('200: /try-app/ valid', 'to a named location',
        "/try-app/x?cursor=$good");
    is($r->json->{headers}{'X-Offset'} // $r->json->{headers}{'x-offset'}, 40,
        'that knows the claims');

    $r = counted('200: /try-off/ valid', 'to a place without cursors',
        "/try-off/x?cursor=$good");
    my %h = map { lc $_ => $r->json->{headers}{$_} }
        keys %{ $r->json->{headers} };
    is($h{'x-offset'}, 40, 'that knows the claims');
    is($h{'x-key-id'}, 'one', 'and the key');
    is($r->header('X-Status'), 'valid', 'and the status');

    counted('400: /try-two/ valid, @two bad_signature, @two refused',
        'to a place with another key', "/try-two/x?cursor=$good");
    counted('400: /try-two/ bad_signature, /try-two/ refused',
        'the first one refuses', "/try-two/x?cursor=$other");
    counted('200: /try-two/ absent, @two absent', 'two rules count both',
        '/try-two/x');
    counted('400: /try-short/ valid, @app expired, @app refused',
        'to a place with a shorter ttl', "/try-short/x?cursor=$late");
    counted('200: /try-short/ valid, @app valid',
        'to one that agrees', "/try-short/x?cursor=$good");
};

subtest 'error_page' => sub {
    for my $place ('/service/', '/service-404/') {
        my $status = $place eq '/service/' ? 200 : 404;
        my $asked = $b->requests;
        counted('400: @service bad_signature, @service refused',
            "$place hands on, and that is where it ends",
            "${place}x?cursor=$forged");
        is($b->requests, $asked, 'the service was not asked');
        counted("$status: \@service valid", "$place: a genuine one passes",
            "${place}x?cursor=$good");
        counted('400: @service expired, @service refused',
            "$place: the rules of there", "${place}x?cursor=$mid");
    }

    counted('200: /fallback/ valid', 'a fallback of the same rules',
        "/fallback/?cursor=$good");
    counted('400: /fallback/ bad_signature, /fallback/ refused',
        'is for nobody who was refused', "/fallback/?cursor=$forged");
    my $r = counted('502: /page/ valid', 'a page', "/page/?cursor=$good");
    is($r->header('X-Status'), 'valid', 'does not make it absent');

    my @h = (headers => ['X-Cursor' => $forged]);
    $r = counted('400: /recursive/ bad_signature, /recursive/ refused',
        'the page of a refusal, with recursive_error_pages', '/recursive/x',
        @h);
    is($r->body, "bad cursor\n", 'is sent');
};

subtest 'X-Accel-Redirect' => sub {
    counted('200: /accel/ valid',
        'the same cursor is counted once',
        "/accel/?cursor=$good&to=/internal/%3fcursor=$good");
    counted('400: /accel/ absent, /internal/ bad_signature, '
        . '/internal/ refused', 'another one is verified',
        "/accel/?to=/internal/%3fcursor=$forged");
};

subtest 'post_action' => sub {
    my $asked = $b->requests;
    counted('200', 'the client has its answer', "/post/?cursor=$forged");
    wait_for { $b->requests == $asked + 2 } what => 'the post_action';
    pass('and what comes then is nothing to it');
};

subtest 'subrequests' => sub {
    my $asked = $mirror->requests;
    for my $place ('/mirror/', '/mirror-nobody/') {
        counted("400: $place bad_signature, $place refused",
            "$place: a forged one", "$place?cursor=$forged");
        counted("400: $place bad_signature, $place refused",
            "$place: a forged one with a body",
            sub { $t->post("$place?cursor=$forged", body => 'x' x 20000) });
    }
    is($mirror->requests, $asked, 'is not mirrored');

    counted('200: /mirror/ valid', 'a genuine one with a body',
        sub { $t->post("/mirror/?cursor=$good", body => 'x' x 20000) });
    wait_for { $mirror->requests == $asked + 1 } what => 'its mirror';
    pass('is mirrored');

    $mirror->clear;
    my $r = counted('200: /auth/ valid', 'auth_request',
        "/auth/?cursor=$good");
    my ($sub) = grep { $_->{uri} =~ m{^/sub} } $mirror->seen;
    my %h = map { lc $_ => $sub->{headers}{$_} } keys %{ $sub->{headers} };
    is($h{'x-cursor-status'}, 'valid', 'a subrequest may know');

    counted('400: /auth/ bad_signature, /auth/ refused',
        'auth_request and a forged one', "/auth/?cursor=$forged");
};

subtest 'queries that change' => sub {
    counted('200: / valid', 'rewrite: what it makes',
        "/rewrite/?c=$good&cursor=$forged");
    counted('400: / bad_signature, / refused', 'rewrite: is verified',
        "/rewrite/?c=$forged&cursor=$good");
    counted('400: /break/ bad_signature, /break/ refused',
        'rewrite .. break', "/break/?c=$forged&cursor=$good");
    counted('400: / bad_signature, / refused', 'rewrite with its query',
        "/rewrite-keep/?cursor=$forged");
    my @four = (port => $t->port('early4'));
    counted('200: /asked/ valid', 'counted once, also where it was asked for'
        . ' by other rules in between', "/asked/?cursor=$good", @four);
    counted('200: /observed/ bad_signature', 'and where it is observed',
        "/observed/?cursor=$forged", @four);
    counted('200: /set/ valid', 'set $args: what it says',
        "/set/?c=$good&cursor=$forged");
    counted('400: /set/ bad_signature, /set/ refused',
        'set $args: is verified', "/set/?c=$forged&cursor=$good");
    counted('200: /set-empty/ absent', 'set $args to nothing',
        "/set-empty/?cursor=$forged");
    counted('200: /set-if/ absent', 'set $args in an "if"',
        "/set-if/?x=1&cursor=$forged");
    counted('200: /set-late/ valid', 'set $args later: another genuine one',
        "/set-late/?cursor=$good&c=" . $c->issue(41));
    counted('400: /set-late/ valid, @set bad_signature, @set refused',
        'set $args later: a forged one',
        "/set-late/?cursor=$good&c=$forged");
};

subtest 'variables that are asked early' => sub {
    my ($x, $y) = ($c->issue(1001), $c->issue(1002));

    my $then = counters();
    counted('200: /limit/ valid', 'the key of a limit', "/limit/?cursor=$x");
    my $now = counters();
    is($now->{'/limit/ verified'} - $then->{'/limit/ verified'}, 1,
        'one verification');
    is($t->get("/limit/?cursor=$x")->status, 429, 'is a claim');
    counted('200: /limit/ valid', 'another key', "/limit/?cursor=$y");
    counted('400: /limit/ bad_signature, /limit/ refused',
        'a forged one has no key', "/limit/?cursor=$forged") for 1 .. 2;
    counted('429', 'who is over his limit is not counted',
        "/limit/?cursor=$x");

    is($t->get("/return/?cursor=$forged")->status, 403, 'in an "if"');
    counted('200: /return/ valid', 'which lets others pass',
        "/return/?cursor=$good");

    counted('400: /self/ mismatch, /self/ refused',
        'a claim that shall be what it is', "/self/?cursor=$good");
    is($t->get("/self-when/?cursor=$forged")->status, 200,
        'a cursor that is looked at when it is looked at');
    $t->log_unlike(qr/cycle while evaluating/, 'without going in circles');

    my %early = (port => $t->port('early'));
    my $r = $t->get("/?cursor=$good", %early);
    is($r->status . $r->header('X-Early'), '200valid', 'asked by the server');
    $r = $t->get("/?cursor=$forged", %early);
    is($r->status . $r->header('X-Early'), '400bad_signature', 'and refused');
    $r = $t->get("/two/?cursor=$good", %early);
    is($r->status . $r->header('X-Early') . $r->header('X-Status'),
        '400validbad_signature', 'the location has another key');
    $r = $t->get("/two/?cursor=$other", %early);
    is($r->status . $r->header('X-Early') . $r->header('X-Status'),
        '200bad_signaturevalid', 'which counts');
    $r = $t->get("/off/?cursor=$good", %early);
    is($r->status . $r->header('X-Early'), '200valid', 'none here');
    is($r->header('X-Status'), undef, 'so there is no status');

    %early = (port => $t->port('early2'));
    my $ts = time;
    my $bound = sub {
        my ($route) = @_;
        return $c->envelope(qq({"offset":1,"ts":$ts,"route":"$route"}),
            qq({"offset":1,"route":"$route","ts":$ts}));
    };
    $r = $t->get('/?cursor=' . $bound->('a'), %early);
    is($r->status . ($r->header('X-Early') || '-') . $r->header('X-Status'),
        '200-valid', 'values that are set later, and bind');
    $r = $t->get('/?cursor=' . $bound->('b'), %early);
    is($r->status . $r->header('X-Status'), '400mismatch', 'or do not');
    $r = $t->get('/x?cursor=' . $bound->('b'), %early);
    is($r->status . ($r->header('X-Status') || '-'), '200-',
        'or are never set');

    $r = $t->get('/?cursor=' . $bound->('a'), port => $t->port('early3'));
    is($r->status . $r->header('X-Early') . $r->header('X-Status'),
        '200mismatchvalid', 'a claim that is bound to a value of later');

    my $p = $t->port('early');
    $r = $t->get('/route/?cursor=' . $bound->('a'), port => $p);
    is($r->status, 200, 'rules that differ from the server\'s');
    is($t->get('/when/?cursor=' . $forged, port => $p)->status, 400,
        'when= that differs');
};

subtest 'others are verified meanwhile' => sub {
    my $conn = $t->conn;
    $conn->write("GET /hold/?cursor=" . $c->issue(12345)
        . " HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_for { $hold->requests == 1 } what => 'the request to arrive';

    $t->get("/?cursor=$_") for $c->issue(1), $forged;
    $hold->release;

    my $r = $conn->recv;
    is($r->status . ' ' . $r->header('X-Status'), '200 valid', 'one that waits');
    is($r->header('X-Offset'), 12345, 'has its own claims');
    $conn->close;
};

subtest 'one after the other' => sub {
    my $conn = $t->conn;
    my @got;

    for my $cursor ($good, $forged, '', $good, 'x') {
        $conn->write("GET /?cursor=$cursor HTTP/1.1\r\nHost: a\r\n\r\n");
        my $r = $conn->recv;
        push @got, $r->status . $r->header('X-Status');
    }
    is("@got", '200valid 400bad_signature 200absent 200valid 400malformed',
        'requests of one connection know nothing of each other');
    $conn->close;
};

$t->done;
done_testing;
