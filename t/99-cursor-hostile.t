#!/usr/bin/perl

# What an attacker tries: to get a cursor past the gate that is forged, old,
# another's, or written in another way; to confuse the connection behind a
# refusal; to get his bytes into the log; to have somebody counted twice, or
# refused.  Every line of the tables says what the service may see.

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
my $cgi = $t->backend('ok', fastcgi => 1);
my $mirror = $t->backend('ok');
my $auth = $t->backend(sub {
    my ($req) = @_;
    return { status => $req->{uri} =~ /key=1/ ? 200 : 401 };
});

my $c = Gate::Cursor->new('cursor-test-key-of-more-than-32-bytes');
my $foreign = Gate::Cursor->new('cursor-test-key-of-another-that-is-so');

sub key_file {
    my ($key) = @_;
    my $file = $t->write_file('cursor.key', $key->secret . "\n");
    chmod 0600, $file or die "chmod $file: $!\n";
    return $file;
}

my $key = key_file($c);
my ($crt, $crt_key) = $t->cert;

$t->write_file('html/page', "page\n");

my $pass = "proxy_pass http://$bp;";

# What differs between the configurations of one test is a few locations.

sub site {
    my ($more) = @_;

    $t->http(workers => 2,
        access => '$status $gate_cursor_status "$gate_cursor_claim_offset" '
            . '"$gate_cursor_claim_" $gate_cursor_key_id',
        <<"EOF_CONF");
    gate_cursor_key file=$key id=one;
    underscores_in_headers on;
    large_client_header_buffers 4 64k;
    gate_limit_zone few key=\$arg_k rate=1r/h;
    map \$gate_cursor_claim_offset \$who { default -; ~. known; }

    server {
        listen 127.0.0.1:%%PORT:http%%;
        root %%DIR%%/html;
        default_type text/html;
        gate_cursor cursor;
        add_header X-Status \$gate_cursor_status always;
        add_header X-Who \$who always;
@{[ $g->endpoints ]}
        location / { $pass }
        location /uri/ { proxy_pass http://$bp/there/; }
        location /vars/ { proxy_pass http://$bp/there\$is_args\$args; }
        location /raw/ { proxy_pass http://$bp\$request_uri; }
        location /if/ { if (\$request_method) { $pass } }
        location /except/ { limit_except GET { $pass } $pass }
        location /nested/ {
            gate_cursor off;
            location /nested/on/ { gate_cursor cursor; $pass }
        }
        location /named/ { error_page 418 = \@app; return 418; }
        location \@app { $pass }
        location /try/ { try_files /none \@app; }
        location /try-uri/ { try_files /none /tried/?a=b&\$args; }
        location /rewrite/ { rewrite ^ /rewritten?a=b last; }
        location /break/ { rewrite ^ /rewritten break; $pass }
        location /mirror/ { mirror /mirrored; $pass }
        location = /mirrored {
            internal;
            proxy_pass http://@{[ $mirror->addr ]}\$request_uri;
        }
        location /cgi/ {
            fastcgi_pass @{[ $cgi->addr ]};
            fastcgi_param QUERY_STRING \$query_string;
        }
        location /bound/ { gate_cursor_claim user \$arg_user; $pass }
        location /header/ { gate_cursor header:X-Cursor; $pass }
        location /cookie/ { gate_cursor cookie:cur; $pass }
        location /array/ { gate_cursor page[cursor]; $pass }
        location /raw-rewritten/ {
            rewrite ^ /rewritten break;
            proxy_pass http://$bp\$request_uri;
        }
        location /last-uri/ {
            gate_cursor cursor duplicate=last;
            proxy_pass http://$bp/there/;
        }
        location /first/ { gate_cursor cursor duplicate=first; $pass }
        location /last/ { gate_cursor cursor duplicate=last; $pass }
        location /when/ { gate_cursor cursor when=\$http_x_key; $pass }
        location /observe/ {
            gate_cursor cursor mode=observe;
            try_files /none /observe/two/?a=b&\$args;
            location /observe/two/ { $pass }
        }
        location /all/ {
            gate_maintenance all;
            gate_limit zone=few;
            auth_request /auth;
            $pass
        }
        location = /auth {
            internal;
            proxy_pass http://@{[ $auth->addr ]}\$request_uri;
        }
        $more
    }

    server {
        listen 127.0.0.1:%%PORT:early%%;
        gate_cursor header:X-Cursor;
        gate_cursor_claim host \$http_host\$cookie_x\$arg_y;
        set \$early \$gate_cursor_status;
        add_header X-Early \$early always;
        root %%DIR%%/html;

        location /two/ {
            gate_cursor cursor;
            gate_cursor_claim offset 40;
            try_files /none /two/2/?a=b&\$args;
            location /two/2/ { $pass }
        }
    }

    server {
        listen 127.0.0.1:%%PORT:h2%% ssl http2;
        ssl_certificate $crt;
        ssl_certificate_key $crt_key;
        gate_cursor cursor;
        add_header X-Status \$gate_cursor_status always;
        location / { $pass }
        location /cookie/ { gate_cursor cookie:cur; $pass }
    }
EOF_CONF
    return;
}

site('');
$t->start;

my $good = $c->issue(40);
my %cursor = (
    GOOD => $good,
    BAD => Gate::Cursor::forged($good),
    FOREIGN => $foreign->issue(40),
    OLD => $c->issue(40, age => 700),
    FUTURE => $c->issue(40, age => -700),
    MORE => $c->issue(40, more => ',"user":"eve"'),
    CUT => substr($good, 0, -5),
);

sub fill {
    my ($s) = @_;
    $s =~ s/\b([A-Z]+)\b/$cursor{$1} || $1/ge;
    return $s;
}

# One request, byte for byte.  "400 malformed", and the service was not asked;
# "200 valid", and it was.

sub raw {
    my ($request, %o) = @_;

    my $before = $b->requests;
    my $answer = $t->raw(fill($request), timeout => 10 * Gate::scale(), %o);
    my $asked = $b->requests - $before;
    my @said = $answer =~ m{HTTP/1\.1 (\d\d\d) }g;
    my @status = $answer =~ /^X-Status: (\S+)/gm;

    my $s = join ' ', map { "$said[$_] " . ($status[$_] // '-') } 0 .. $#said;
    my $ok = grep { $_ == 200 } @said;

    return wantarray ? ($s . ($asked == $ok ? '' : " but asked $asked times"),
        $answer) : $s;
}

sub gives {
    my ($want, $target, $header) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my ($got) = raw("GET $target HTTP/1.1\r\nHost: h\r\n"
        . ($header // '') . "Connection: close\r\n\r\n");

    my $name = $target . ($header ? " $header" : '');
    $name =~ s/\r\n/ /g;
    $name = substr($name, 0, 77) . '...' if length $name > 80;

    return is($got, $want, $name);
}

subtest 'every way to the service' => sub {
    for my $way (qw(/ /uri/ /vars/ /raw/ /if/ /except/ /nested/on/ /named/
        /try/ /try-uri/ /rewrite/ /break/ /last/ /array/../x))
    {
        gives('200 valid', "$way?cursor=GOOD");
        gives('400 bad_signature', "$way?cursor=BAD");
        gives('400 bad_signature', "$way?cursor=FOREIGN");
        gives('400 expired', "$way?cursor=OLD");
        gives('400 future', "$way?cursor=FUTURE");
        gives('400 malformed', "$way?cursor=MORE");
        gives('400 malformed', "$way?cursor=CUT");
    }

    for my $kind (qw(GOOD BAD)) {
        my @asked = ($cgi->requests, $mirror->requests);
        my $n = $kind eq 'GOOD' ? 1 : 0;

        $t->get(fill("/cgi/?cursor=$kind"));
        $t->get(fill("/mirror/?cursor=$kind"));
        is($cgi->requests - $asked[0], $n, "$kind at fastcgi_pass");
        is($mirror->requests - $asked[1], $n, "$kind at a mirror");
    }
};

subtest 'spellings' => sub {
    gives(@$_) for (
        ['200 absent', '/x'], ['200 absent', '/x?'], ['200 absent', '/x?&&&'],
        ['200 absent', '/x?='], ['200 absent', '/x?=GOOD'],
        ['200 absent', '/x?cursor'], ['200 absent', '/x?cursor='],
        ['200 absent', '/x?cursor&cursors=BAD'],

        # the same name
        ['400 bad_signature', '/x?%63ursor=BAD'],
        ['400 bad_signature', '/x?%63%75%72%73%6F%72=BAD'],
        ['400 bad_signature', '/x?%63%75%72%73%6f%72=BAD'],
        ['400 bad_signature', '/x?&&&=&cursor=BAD&&='],
        ['400 bad_signature', '/x?' . 'a=b&' x 9000 . 'cursor=BAD'],
        ['400 bad_signature', '/x?' . '&' x 60000 . 'cursor=BAD'],
        ['400 bad_signature', '//x/../y/%2e/?cursor=BAD'],
        ['400 bad_signature', '/x%23?cursor=BAD'],
        ['400 bad_signature', '/x%3f?cursor=BAD'],
        ['400 bad_signature', 'http://h?cursor=BAD'],
        ['400 bad_signature', 'http://other:1/x?cursor=BAD'],
        ['400 bad_signature', '/x??cursor&cursor=BAD'],
        ['400 bad_signature', '/array/?page%5Bcursor%5D=BAD'],
        ['400 bad_signature', '/array/?page[cursor]=BAD'],
        ['200 valid', '/array/?page%5bcursor]=GOOD'],

        # other names: no service that splits at "&" finds a cursor
        ['200 absent', '/x?Cursor=BAD'], ['200 absent', '/x?+cursor=BAD'],
        ['200 absent', '/x?cursor%00=BAD'], ['200 absent', '/x?cursor[]=BAD'],
        ['200 absent', '/x?a;cursor=BAD'], ['200 absent', '/x?%2563ursor=BAD'],
        ['200 absent', '/x%3fcursor=BAD'],
        ['200 absent', '/x?a=1%26cursor=BAD'],
        ['200 absent', '/x?%c0%a3ursor=BAD'], ['200 absent', '/x?cursor%=BAD'],
        ['200 absent', '/x?%EF%BB%BFcursor=BAD'],

        # the value
        ['400 malformed', '/x?cursor==GOOD'],
        ['400 malformed', '/x?cursor=GOOD='],
        ['400 malformed', '/x?cursor=GOOD%00'],
        ['400 malformed', '/x?cursor=%00'],
        ['400 malformed', '/x?cursor=+GOOD'],
        ['400 malformed', '/x?cursor=GOOD%0a'],
        ['400 malformed', '/x?cursor=GOOD;x'], ['400 malformed', '/x?cursor=%'],
        ['400 malformed', '/x?cursor=GOOD%2'],
        ['400 malformed', '/x?cursor=%ff%fe'],
        ['400 malformed', '/x?cursor=GOOD,GOOD'],
        ['400 malformed', '/x?cursor=null'], ['400 malformed', '/x?cursor=0'],
        ['400 malformed', '/x?cursor=' . '%41' x 4096],
        ['400 malformed', '/x?cursor=' . '%41' x 4097],
        ['400 malformed', '/x?cursor=' . 'A' x 60000],
        ['200 valid', '/x?cursor=' . join '', map { sprintf '%%%02x', ord }
            split //, $good],

        # several
        ['400 duplicate', '/x?cursor=GOOD&cursor=GOOD'],
        ['400 duplicate', '/x?cursor=GOOD&cursor='],
        ['400 duplicate', '/x?cursor&cursor'],
        ['400 duplicate', '/x?cursor=GOOD&%63ursor=BAD'],
        ['400 duplicate', '/x?' . 'cursor&' x 8000],
        ['400 bad_signature', '/last/?cursor=GOOD&cursor=BAD'],
        ['200 absent', '/last/?cursor=BAD&cursor='],
    );
};

# nginx ends the query there, and passes on what is behind it all the same.

subtest 'fragments' => sub {
    for my $target ('/x?a=1#&cursor=BAD', '/x#?cursor=BAD', '/x?#&cursor=BAD',
        'http://h/#?cursor=BAD', 'http://h/?a#&%63ursor=BAD',
        '/raw/?a=1#&cursor=BAD', '/x?cursor=GOOD#&cursor=BAD',
        '/x?cursor=GOOD#x', '/x?cursor=#BAD', '/last/?cursor=GOOD#&cursor=BAD',
        '/last/?cursor=BAD#&cursor=GOOD', '/last-uri/?cursor=BAD#&cursor=GOOD',
        '/first/?cursor=BAD#&cursor=GOOD', '/first/?#&cursor=BAD',
        '/raw-rewritten/?a=1#&cursor=BAD', '/raw-rewritten/x#?cursor=BAD')
    {
        gives('400 malformed', $target);
    }

    gives('200 absent', '/x#cursor=BAD');
    gives('200 absent', '/x?a#b');
};

subtest 'headers and cookies' => sub {
    gives(@$_) for (
        ['400 bad_signature', '/header/', "x-cursor: BAD\r\n"],
        ['400 bad_signature', '/header/', "X-Cursor:   BAD   \r\n"],
        ['400 bad_signature', '/header/', "X_Cursor: BAD\r\n"],
        ['400 duplicate', '/header/', "X-Cursor: GOOD\r\nX_Cursor: BAD\r\n"],
        ['400 duplicate', '/header/', "X-Cursor:\r\nX-Cursor: BAD\r\n"],
        ['400 malformed', '/header/', "X-Cursor: GOOD, BAD\r\n"],
        ['400 malformed', '/header/', 'X-Cursor: ' . 'A' x 60000 . "\r\n"],
        ['400 malformed', '/header/', "X-Cursor: \"GOOD\"\r\n"],
        ['400 bad_signature', '/header/', "A: b\r\n" x 500
            . "X-Cursor: BAD\r\n"],
        ['200 valid', '/header/?cursor=BAD', "X-Cursor: GOOD\r\n"],
        ['400 bad_signature', '/x?cursor=BAD', "X-Cursor: GOOD\r\n"],
    );

    gives(@$_) for (
        ['400 bad_signature', '/cookie/', "Cookie: cur=BAD\r\n"],
        ['400 bad_signature', '/cookie/', "Cookie: a=b;cur=BAD; c\r\n"],
        ['400 bad_signature', '/cookie/', "Cookie: ;; cur = BAD\r\n"],
        ['400 bad_signature', '/cookie/', "Cookie: cur=\"BAD\"\r\n"],
        ['200 valid', '/cookie/', "Cookie: cur=\"GOOD\"\r\n"],
        ['400 duplicate', '/cookie/', "Cookie: cur=GOOD; cur=BAD\r\n"],
        ['400 duplicate', '/cookie/',
            "Cookie: cur=GOOD\r\nCookie: cur=BAD\r\n"],
        ['400 duplicate', '/cookie/', 'Cookie: ' . 'cur=;' x 9000 . "\r\n"],
        ['400 malformed', '/cookie/', "Cookie: cur=GOOD,cur=BAD\r\n"],
        ['400 malformed', '/cookie/', "Cookie: cur=\"\\145\"\r\n"],
        ['200 absent', '/cookie/', "Cookie: cur\r\n"],
        ['200 absent', '/cookie/', "Cookie: CUR=BAD; xcur=BAD\r\n"],
    );

    gives('200 -', '/when/?cursor=BAD', "X-Key: 0\r\n");
    gives('200 -', '/when/?cursor=BAD', "X-Key:\r\n");
    gives('400 bad_signature', '/when/?cursor=BAD', "X-Key: 00\r\n");
};

subtest 'bound' => sub {
    $cursor{MINE} = $c->issue(40, more => ',"user":"me"');
    $cursor{HASHED} = $c->issue(40, more => ',"user":"sha256:'
        . '2744ccd10c7533bd736ad890f9dd5cab2adb27b07d500b9493f29cdc420cb2e0'
        . '"');
    $cursor{NUL} = $c->issue(40, more => ',"user":"me\\u0000"');
    $cursor{NOTHING} = $c->issue(40, more => ',"user":""');

    for (
        ['200 valid', 'MINE', 'me'], ['400 mismatch', 'MINE', 'Me'],
        ['400 mismatch', 'MINE', 'm'], ['400 mismatch', 'MINE', 'mee'],
        ['400 mismatch', 'MINE', ''], ['400 mismatch', 'MINE', '%6de'],
        ['400 mismatch', 'NUL', 'me'], ['400 mismatch', 'NOTHING', ''],
        ['400 mismatch', 'GOOD', 'me'], ['400 mismatch', 'GOOD', ''],
        ['200 valid', 'HASHED', 'me'], ['400 mismatch', 'HASHED', 'eve'],
        ['400 mismatch', 'HASHED', 'sha256:'
            . '2744ccd10c7533bd736ad890f9dd5cab2adb27b07d500b9493f29cdc420cb2'
            . 'e0'])
    {
        my ($want, $which, $user) = @$_;
        my ($got) = raw("GET /bound/?user=$user&cursor=$which HTTP/1.1\r\n"
            . "Host: h\r\nConnection: close\r\n\r\n");
        is($got, $want, "$which for \"$user\"");
    }
};

# What is behind a refused request is the next request, and nothing else is.

subtest 'the connection behind a refusal' => sub {
    my $next = "GET /next?cursor=GOOD HTTP/1.1\r\nHost: h\r\n"
        . "Connection: close\r\n\r\n";
    my $head = "POST /x?cursor=BAD HTTP/1.1\r\nHost: h\r\n";

    for (
        ['no body', "$head\r\n"],
        ['a body', "${head}Content-Length: 5\r\n\r\nabcde"],
        ['a body that looks like a request',
            "${head}Content-Length: 33\r\n\r\n"
            . "GET /in?a=bcdefghij HTTP/1.1\r\n\r\n\n"],
        ['chunks', "${head}Transfer-Encoding: chunked\r\n\r\n"
            . "5\r\nabcde\r\n0\r\nX: y\r\n\r\n"],
        ['a body of 100 KB', "${head}Content-Length: 100000\r\n\r\n"
            . 'x' x 100000])
    {
        my ($got, $answer) = raw($_->[1] . $next);
        is($got, '400 bad_signature 200 valid', "after $_->[0]");
        unlike($answer, qr{/in\b}, "nothing of $_->[0] is a request")
            if $_->[0] =~ /looks/;
    }

    is((raw("${head}Content-Length: 5\r\nExpect: 100-continue\r\n"
        . "Connection: close\r\n\r\n"))[0], '400 bad_signature',
        'nobody is asked to send a body');
    is((raw("${head}Transfer-Encoding: chunked\r\n\r\nzz\r\n"))[0],
        '400 bad_signature', 'no chunk');

    for my $method (qw(HEAD OPTIONS PUT DELETE PATCH PROPFIND X)) {
        is((raw("$method /x?cursor=BAD HTTP/1.1\r\nHost: h\r\n"
            . "Connection: close\r\n\r\n"))[0], '400 bad_signature', $method);
    }

    is((raw("GET /x?cursor=BAD HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n"
        . "Connection: upgrade\r\n\r\n", finish => 1))[0],
        '400 bad_signature', 'an upgrade');

    my $before = $b->requests;
    like($t->raw(fill("GET /x?cursor=BAD\r\n")), qr/^\{"detail":"Invalid/,
        'HTTP/0.9');
    is($b->requests, $before, 'does not ask the service');
};

# Before a request is one, variables have nothing to look at.

subtest 'what is no request' => sub {
    for my $port (qw(http early)) {
        for (
            ['garbage', "\x16\x03\x01\x00garbage\r\n\r\n"],
            ['a control', "GET /\x01?cursor=BAD HTTP/1.1\r\n\r\n"],
            ['no host', "GET /?cursor=BAD HTTP/1.1\r\nX-Cursor: BAD\r\n\r\n"],
            ['two hosts', "GET /?cursor=BAD HTTP/1.1\r\nHost: a\r\n"
                . "X-Cursor: BAD\r\nHost: b\r\n\r\n"],
            ['a host that is none', "GET / HTTP/1.1\r\nX-Cursor: BAD\r\n"
                . "Host: a/b\r\n\r\n"],
            ['a header that is too long', "GET /?cursor=BAD HTTP/1.1\r\n"
                . "Host: h\r\nX-Cursor: " . 'A' x 70000 . "\r\n\r\n"],
            ['OPTIONS *', "OPTIONS * HTTP/1.1\r\nHost: h\r\n"
                . "X-Cursor: BAD\r\n\r\n"],
            ['version 2', "GET /?cursor=BAD HTTP/2.0\r\n\r\n"])
        {
            my $before = $b->requests;
            my $answer = $t->raw(fill($_->[1]), port => $port,
                finish => 1, timeout => 10 * Gate::scale());
            like($answer, qr/^HTTP\S+ [45]0\d |^<html/, "$port: $_->[0]");
            is($b->requests, $before, 'reaches nobody');
        }

        like($t->raw('GET /?cursor=' . 'A' x 70000 . " HTTP/1.1\r\n\r\n",
            port => $port, finish => 1), qr/^HTTP\S+ 414 /,
            "$port: a line that is too long");
    }
};

subtest 'HTTP/2' => sub {
    my $curl = skip_unless_cmd('curl', 1);

    for (
        ['400 0', '/x?cursor=BAD'], ['200 1', '/x?cursor=GOOD'],
        ['400 0', '/x?a=1#&cursor=BAD'], ['400 0', '/x#?cursor=BAD'],
        ['400 0', '/x?cursor=GOOD&cursor=GOOD'],
        ['400 0', '/cookie/', '-H', 'Cookie: cur=GOOD',
            '-H', 'Cookie: cur=BAD'],
        ['400 0', '/x?cursor=BAD', '--data-binary', 'x' x 100000])
    {
        my ($want, $target, @args) = map { fill($_) } @$_;
        my $before = $b->requests;

        open my $fh, '-|', 'curl', '-sk', '--http2', '-m', 10 * Gate::scale(),
            '-o', '/dev/null', '-w', '%{http_code}', '--request-target',
            $target, @args, 'https://127.0.0.1:' . $t->port('h2') . '/'
            or die "curl: $!\n";
        my $code = <$fh> // '';
        close $fh;

        is("$code " . ($b->requests - $before), $want, substr $_->[1], 0, 60);
    }
};

subtest 'one is told one thing at a time' => sub {
    $g->api('maintenance/all', 'on');
    is($t->get(fill('/all/?k=1&key=1&cursor=BAD'))->status, 503,
        'maintenance first');
    $g->api('maintenance/all', 'off');

    gives('401 bad_signature', '/all/?k=2&key=0&cursor=BAD');
    gives('429 bad_signature', '/all/?k=2&key=0&cursor=BAD');
    gives('400 bad_signature', '/all/?k=3&key=1&cursor=BAD');
    gives('200 valid', '/all/?k=4&key=1&cursor=GOOD');
};

# What the status counts of the locations whose name begins so.

sub counted {
    my ($at, $what) = @_;
    my $cursors = $g->status->{cursors};
    my $n = 0;

    for my $name (grep { /^_\Q$at\E/ } keys %$cursors) {
        $n += $cursors->{$name}{$what} // $cursors->{$name}{status}{$what};
    }

    return $n;
}

subtest 'counted once' => sub {
    for (['GOOD', 'valid', 0], ['BAD', 'bad_signature', 1]) {
        my ($which, $status, $observed) = @$_;
        my @then = map { counted('/observe/', $_) } $status, 'observed';

        is($t->get(fill("/observe/?cursor=$which"))->status, 200, $which);
        is(counted('/observe/', $status) - $then[0], 1, $status);
        is(counted('/observe/', 'observed') - $then[1], $observed, 'observed');
    }

    my $then = counted('/two/', 'valid');
    is($t->get(fill('/two/?cursor=GOOD'), port => 'early')->status, 200,
        'where the server asks in between');
    is(counted('/two/', 'valid') - $then, 1, 'valid');

    $then = counted('', 'refused');
    $t->get(fill('/try-uri/?cursor=BAD')) for 1 .. 3;
    is(counted('', 'refused') - $then, 3, 'refused');
};

# Nothing of a cursor is in a line of ours, nor of the client's in the access
# log, which had only variables.

subtest 'the logs' => sub {
    my @ours = grep { /gate: cursor/ } split /\n/, $t->log_from(0);

    cmp_ok(@ours, '>', 1, 'there are lines');
    is_deeply([ grep { /eyJ|client:|request:|cursor=/ } @ours ], [],
        'without what the client sent');

    my @other = grep { !/^\d{3} (-|[a-z_]+) "(-|40)" "-" (-|one)$/ }
        split /\n/, Gate::slurp($t->dir . '/access.log');
    is_deeply(\@other, [], 'and so is the access log');
};

sub under_load {
    my ($do) = @_;

    my @load = map {
        $t->load(uri => fill("/l/?cursor=$_"), rate => 200, conns => 10,
            duration => 60)
    } qw(GOOD BAD);

    $do->();

    return map { $_->stop } @load;
}

subtest 'reloads, and workers that die' => sub {
    my @then = map { counted('/l/', $_) } qw(valid refused);
    site('location /l/ { ' . $pass . ' }');
    $t->reload;

    my ($valid, $bad) = under_load(sub {
        for my $i (1 .. 3) {
            site('location /l/ { ' . $pass . ' } ' . join ' ', map {
                "location /$i-$_/ { $pass }" } 1 .. 250);
            $t->reload(wait => 0);
            $t->kill_worker;
        }

        # the answers to those that the dead had counted are lost
        my $now = counted('/l/', 'valid');
        wait_for { counted('/l/', 'valid') > $now + 40 } what => 'requests';
    });

    cmp_ok($valid->{status}{200}, '>', 20, 'requests');
    is_deeply([ keys %{ $valid->{status} } ], [200], 'genuine ones pass');
    is_deeply([ keys %{ $bad->{status} } ], [400], 'forged ones do not');

    cmp_ok(counted('/l/', 'valid') - $then[0], '>=', $valid->{status}{200},
        'each is counted');
    is(counted('/l/', 'refused'), counted('/l/', 'bad_signature'),
        'and refused');

    my $names = $g->status->{cursors};
    cmp_ok(scalar keys %$names, '<=', 513, 'names are bounded');
    ok($names->{'(others)'}, 'the others share one');

    my $then = $names->{'(others)'}{refused};
    gives('400 bad_signature', '/3-250/?cursor=BAD');
    is($g->status->{cursors}{'(others)'}{refused}, $then + 1,
        'which counts them');
};

subtest 'modes under load' => sub {
    my %seen;

    my ($valid, $bad) = under_load(sub {
        for my $mode (qw(observe off enforce)) {
            $g->api('modes/cursor', { mode => $mode });
            my $want = $mode eq 'enforce' ? 400 : 200;
            wait_for {
                $t->get(fill('/l/?cursor=BAD'))->status == $want
            } what => $mode;
            $seen{$mode} = $t->get(fill('/l/?cursor=BAD'))->header('X-Status');

            my $log = $t->dir . '/access.log';
            my $then = -s $log;
            wait_for { -s $log > $then + 1000 } what => 'requests';
        }
    });

    is_deeply(\%seen, { observe => 'bad_signature', off => undef,
        enforce => 'bad_signature' }, 'what variables say');
    is_deeply([ keys %{ $valid->{status} } ], [200], 'genuine ones pass');
    is_deeply([ sort keys %{ $bad->{status} } ], [200, 400],
        'others as the mode says');
    is(counted('/l/', 'refused') + counted('/l/', 'observed'),
        counted('/l/', 'bad_signature'), 'each counted as one of both');
};

subtest 'a key that changes under load' => sub {
    $cursor{NEXT} = $foreign->issue(40);

    my ($valid) = under_load(sub {
        my $next = $t->write_file('next.key', $foreign->secret);
        chmod 0600, $next or die "chmod $next: $!\n";
        chown((stat $key)[4, 5], $next) or die "chown $next: $!\n";
        rename $next, $key or die "rename $next: $!\n";

        wait_for { $t->get(fill('/l/?cursor=NEXT'))->status == 200
            && $t->get(fill('/l/?cursor=GOOD'))->status == 400 }
            what => 'the next key';

        unlink $key;
        is(system('mkfifo', $key), 0, 'the file becomes a pipe');
        my $errors = sub { $g->status->{cursor_keys}[0]{errors} };
        my $then = $errors->();
        wait_for { $errors->() > $then } what => 'a worker that looks';
        gives('200 valid', '/l/?cursor=NEXT');

        unlink $key;
        key_file($c);
        wait_for { $t->get(fill('/l/?cursor=GOOD'))->status == 200
            && $t->get(fill('/l/?cursor=NEXT'))->status == 400 }
            what => 'the first key';
    });

    is_deeply([ sort keys %{ $valid->{status} } ], [200, 400],
        'the old key is dead at once');
    is($valid->{errors}{timeout}, 0, 'nobody waits');
};

$t->done;
done_testing;
