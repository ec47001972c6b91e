#!/usr/bin/perl

# With gate_maintenance on for the whole of http{}, with gate_zone and
# gate_state, and with the site open, nginx answers as it does without us.
#
# Two nginx with the same configuration, but for those three lines, and a
# backend of its own behind each: every request goes to both.  The answers
# are compared whole, and so is what the backends saw.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::MD5 qw(md5_hex);
use Gate;
use MIME::Base64 qw(encode_base64);
use Test::More;

my %gate = (
    without => '',
    with    => 'gate_maintenance on; gate_zone 8m; gate_state %%DIR%%/state;',
);

my $counted;
my %side = map { $_ => side($_) } qw(without with);

my $basic = 'Basic ' . encode_base64('user:secret', '');
my $wrong = 'Basic ' . encode_base64('user:wrong', '');
my $large = join '', map { "line $_ of a large body\n" } 1 .. 8000;

# Access.

same('satisfy any: a password or an address', '401 200 401 200', 2, sub {
    my ($t) = @_;
    $t->get('/any'), $t->get('/any', headers => { Authorization => $basic }),
    $t->get('/any', headers => { Authorization => $wrong }),
    $t->get('/any/local');
});

same('satisfy all: a password and an address', '401 200 403', 1, sub {
    my ($t) = @_;
    $t->get('/all'), $t->get('/all', headers => { Authorization => $basic }),
    $t->get('/all/deny', headers => { Authorization => $basic });
});

same('auth_request: the answer of a subrequest', '200 401 403 500', 5, sub {
    my ($t) = @_;
    map { my $who = $_; $t->get("/auth/$who") } qw(204 401 403 500);
});

same('satisfy any with auth_request', '200 403', 3, sub {
    my ($t) = @_;
    $t->get('/auth-any/204'), $t->get('/auth-any/403');
});

same('limit_req: the budget of a key', '200 503 200', 2, sub {
    my ($t) = @_;
    $t->get('/limit?a'), $t->get('/limit?a'), $t->get('/limit?b');
});

same('limit_conn: connections at a time', '503 200', 1, sub {
    my ($t) = @_;
    my $held = $t->conn;
    $held->send(GET => '/conn/hold');
    held($t);
    my $second = $t->get('/conn');
    $t->{backend}->release;
    $second, $held->recv;
});

# The way through the locations.

same('return: a text, a redirect, no answer', '200 301 204 0 410', 0, sub {
    my ($t) = @_;
    map { $t->get("/return/$_") } qw(text redirect 204 444 page);
});

same('return in the server', '200', 0, sub {
    my ($t) = @_;
    $t->get('/', headers => { Host => 'server-return' });
});

same('rewrite: last, break, redirect, and if', '200 200 302 403 500', 2, sub {
    my ($t) = @_;
    map { $t->get("/rewrite/$_") } qw(last break redirect if cycle);
});

same('rewrite in the server', '200', 1, sub { $_[0]->get('/moved/x?y') });

same('try_files: a file, a named location, a code', '200 200 404', 1, sub {
    my ($t) = @_;
    $t->get('/try/file.txt'), $t->get('/try/other'), $t->get('/try-code/no');
});

same('index and autoindex: redirects inside', '200 301', 0, sub {
    my ($t) = @_;
    $t->get('/files/'), $t->get('/files');
});

same('error_page: inside, named, with another code', '404 200 502 503', 3,
sub {
    my ($t) = @_;
    map { $t->get("/error/$_") } qw(missing forbidden refused upstream);
});

same('X-Accel-Redirect: the backend names the location', '200', 1, sub {
    my ($t) = @_;
    $t->get('/accel');
});

same('a method that is not allowed', '405', 0, sub {
    my ($t) = @_;
    $t->request(POST => '/files/file.txt', body => 'x');
});

# Subrequests.

same('SSI: includes, also of what asks for a password', '200', 3, sub {
    my ($t) = @_;
    $t->get('/ssi/page.html');
});

same('addition: before and after the body', '200', 2, sub {
    my ($t) = @_;
    $t->get('/addition/file.txt');
}) if built_with('--with-http_addition_module');

same('slice: one request in pieces, and a range', '200 206 200', 2, sub {
    my ($t) = @_;
    $t->get('/slice/x'),
    $t->get('/slice/x', headers => { Range => 'bytes=30-40' }),
    $t->request(HEAD => '/slice/x');
}) if built_with('--with-http_slice_module');

same('mirror: a copy, with the body', '200 200', 4, sub {
    my ($t) = @_;
    $t->get('/mirror/a'), $t->post('/mirror/b', body => $large);
});

# The cache.

same('proxy_cache: a miss, a hit, a bypass',
    '200 MISS 200 HIT 200 HIT 200 BYPASS', 2,
sub {
    my ($t) = @_;
    cached($t->get('/cache/a'), $t->get('/cache/a'),
        $t->request(HEAD => '/cache/a'), $t->get('/cache/a?bypass=1'));
});

same('proxy_cache_background_update: stale now, fresh later',
    '200 MISS 200 STALE', 2,
sub {
    my ($t) = @_;
    cached($t->get('/cache/stale'), $t->get('/cache/stale'));
});

same('proxy_cache_use_stale: an error behind a stale answer',
    '200 MISS 200 STALE', 2,
sub {
    my ($t) = @_;
    my $first = $t->get('/use-stale/x');
    $t->{backend}->next(status => 500);
    cached($first, $t->get('/use-stale/x'));
});

same('proxy_cache_lock: many ask, one is sent', '200 200 200', 1, sub {
    my ($t) = @_;
    my @c = map { $t->conn } 1 .. 3;
    $c[0]->send(GET => '/lock/hold');
    held($t);
    $_->send(GET => '/lock/hold') for @c[1, 2];
    $t->get('/return/text');
    $t->{backend}->release;
    map { $_->recv } @c;
});

# The protocol.

same('HEAD is answered without a body', '200 200 404', 1, sub {
    my ($t) = @_;
    my $c = $t->conn;
    map { $c->request(HEAD => $_) } '/proxy/x', '/files/file.txt', '/files/no';
});

same('keepalive: pipelined requests in order', '200 200 200 404 200', 2, sub {
    my ($t) = @_;
    my $c = $t->conn;
    $c->send(@$_) for [GET => '/proxy/1'], [HEAD => '/return/text'],
        [POST => '/proxy/2', body => 'abc'], [GET => '/files/no'],
        [GET => '/return/text'];
    map { $c->recv } 1 .. 5;
});

same('Expect: 100-continue is answered at once', '100 200', 1, sub {
    my ($t) = @_;
    my $c = $t->conn;
    $c->send(POST => '/proxy/x',
        headers => { Expect => '100-continue', 'Content-Length' => 5 });
    my $go = $c->read_bytes(25);
    $c->write('hello');
    $go, $c->recv;
});

same('a large body, buffered, unbuffered, chunked, too large',
    '200 200 200 413', 3,
sub {
    my ($t) = @_;
    my @chunked = (headers => { 'Transfer-Encoding' => 'chunked' },
        body => sprintf("%x\r\n%s\r\n0\r\n\r\n", length $large, $large));
    $t->post('/proxy/x', body => $large),
    $t->post('/unbuffered', body => $large),
    $t->post('/proxy/x', @chunked), $t->post('/small', @chunked);
});

same('a body that nobody reads', '200 200', 0, sub {
    my ($t) = @_;
    my $c = $t->conn;
    $c->request(POST => '/return/text', body => $large),
    $c->request(GET => '/return/text');
});

same('ranges and conditions of a file', '206 304 416', 0, sub {
    my ($t) = @_;
    $t->get('/files/file.txt', headers => { Range => 'bytes=1-2' }),
    $t->get('/files/file.txt', headers => {
        'If-Modified-Since' => 'Sun, 09 Sep 2001 01:46:40 GMT' }),
    $t->get('/files/file.txt', headers => { Range => 'bytes=99999-' });
});

same('gzip, expires, add_header: the filters around ours', '200', 1, sub {
    my ($t) = @_;
    $t->get('/filters', headers => { 'Accept-Encoding' => 'gzip' });
});

same('real_ip: the address that access rules see', '200 403', 1, sub {
    my ($t) = @_;
    $t->get('/realip', headers => { 'X-Real-IP' => '192.0.2.1' }),
    $t->get('/realip', headers => { 'X-Real-IP' => '192.0.2.2' });
}) if built_with('--with-http_realip_module');

same('proxy_next_upstream: another server', '200', 1, sub {
    my ($t) = @_;
    $t->get('/next');
});

same('WebSocket: the connection is handed over', '101 hello', 1, sub {
    my ($t) = @_;
    my $c = $t->conn;
    my $r = $c->request(GET => '/proxy/ws', headers => {
        Upgrade => 'websocket', Connection => 'upgrade',
        'Sec-WebSocket-Key' => 'dGhlIHNhbXBsZSBub25jZQ==' });
    $c->write('hello');
    $r, $c->read_bytes(5);
});

SKIP: {
    skip_unless_cmd('nghttp', 1);

    my @uri = qw(/proxy/x /return/text /auth/204 /auth/403 /ssi/page.html
        /try/other /error/forbidden /rewrite/last /cache/h2 /files/no);

    same('HTTP/2: streams of one connection',
        '200 200 200 403 200 200 200 200 200 404', 11,
    sub { h2($_[0], \@uri) });

    $_->write_file('large', $large) for values %side;

    same('HTTP/2: a large body', '200 200', 2, sub {
    my ($t) = @_;
        h2($t, ['/proxy/x', '/unbuffered'], -d => $t->dir . '/large');
    });
}

# And what we do know of all this.

is(inflight(), '0 0 0', 'nothing is in flight any more');

$_->stop for values %side;

my @log = map { [ split /^/, Gate::slurp("$_->{dir}/access.log") ] }
    @side{qw(without with)};

is(join('', sort @{ $log[1] }), join('', sort @{ $log[0] }),
    'the access logs are the same');

is($counted, scalar @{ $log[1] },
    'each request was counted once, whatever it did inside');

$_->done for @side{qw(without with)};

done_testing;

# One case: the expected statuses (or texts) in order and the number of
# requests to the backend.  The code gets one nginx and returns the answers.

sub same {
    my ($name, $expected, $requests, $code) = @_;

    my (%answer, %seen, $statuses);

    for my $which (qw(without with)) {
        my $t = $side{$which};
        my @r = $code->($t);

        $statuses = join ' ', map { ref $_ ? $_->status : $_ =~ /(\w+)\s*$/m }
            map { s/\AHTTP\/1.1 100 Continue\s*\z/100/r } @r
            if $which eq 'without';

        # for those that nobody waits for; the count is checked below
        eval { wait_for { $t->{backend}->requests >= $requests } };

        $answer{$which} = join "\n", map { text($t, $_) } @r;
        $seen{$which} = join "\n", sort map { request($t, $_) }
            $t->{backend}->seen;
        $t->{backend}->clear;
    }

    subtest $name => sub {
        is($statuses, $expected, 'statuses');
        is($answer{with}, $answer{without}, 'the same answers');
        is($seen{with}, $seen{without}, 'the backend saw the same');
        is(() = $seen{with} =~ /^[A-Z]+ \//mg, $requests, 'so many requests');
    };
}

# An answer as text, without what differs between two servers or seconds.

sub text {
    my ($t, $r) = @_;

    return plain($t, $r) unless ref $r;
    return join "\n", $r->head_status . ' ' . ($r->reason // ''),
        $r->error // (),
        (map { "$_->[0]: " . plain($t, $_->[1]) }
            grep { $_->[0] ne 'Date' } @{ $r->headers }),
        '', short(plain($t, $r->body));
}

sub request {
    my ($t, $q) = @_;

    return join "\n", "$q->{method} $q->{uri} $q->{version}",
        (map { "$_: " . plain($t, $q->{headers}{$_}) }
            sort keys %{ $q->{headers} }), short($q->{body});
}

sub plain {
    my ($t, $text) = @_;

    my %name = (reverse(%{ $t->{ports} }), $t->{backend}->port => 'backend');
    $text =~ s/127\.0\.0\.1:\K(\d+)/$name{$1} || $1/ge;
    $text =~ s{(https?://localhost:)(\d+)}{$1 . ($name{$2} || $2)}ge;
    return $text;
}

sub short {
    my ($body) = @_;
    return length $body > 2000 ? length($body) . ' ' . md5_hex($body) : $body;
}

sub cached { return map { $_, $_->header('X-Cache') } @_ }

sub held {
    my ($t) = @_;
    wait_for { $t->{backend}->stats->{held} } what => 'a held request';
}

# The headers of the answers and the length of their bodies.

sub h2 {
    my ($t, $uri, @options) = @_;

    my $base = 'http://127.0.0.1:' . $t->port('h2');
    my %stream;

    open my $fh, '-|', 'nghttp', '-nv', @options, map { "$base$_" } @$uri
        or die "nghttp: $!\n";
    while (my $line = <$fh>) {
        if ($line =~ /recv \(stream_id=(\d+)\) ([:\w-]+): (.*)/) {
            $stream{$1} .= "$2: $3\n" if $2 ne 'date';
        } elsif ($line =~ /recv DATA frame <length=(\d+), .*stream_id=(\d+)/) {
            $stream{$2} .= "$1 bytes\n" if $1;
        }
    }
    close $fh;

    return map { Gate::Response->new(
            status => $stream{$_} =~ /^:status: (\d+)/m,
            body => $stream{$_}) } sort { $a <=> $b } keys %stream;
}

# admitted, bypassed, upgraded; waits for the connections to be gone

sub inflight {
    my $now;

    eval {
        wait_for {
            my $s = $side{with}->get('/gate', port => 'status')->json
                ->{maintenance}{global};
            $counted = $s->{admitted_total};
            $now = join ' ', @{ $s->{in_flight} }{qw(admitted bypassed
                upgraded)};
            $now eq '0 0 0';
        } timeout => 5;
    };

    return $now;
}

# nginx with a backend.

sub side {
    my ($which) = @_;

    my $t = Gate->new(module => $which eq 'with');
    my $backend = $t->{backend} = $t->backend(\&answer);
    my $addr = $backend->addr;

    $backend->on('/proxy/ws', 'websocket');
    $backend->on('/conn/hold', 'hold');
    $backend->on('/lock/hold', 'hold', headers => { 'X-Accel-Expires' => 9 });

    $t->write_file('users', "user:{PLAIN}secret\n");
    $t->write_file("html/$_->[0]", $_->[1]) for
        ['files/index.html', "the index\n"], ['files/file.txt', "a file\n"],
        ['try/file.txt', "found\n"], ['addition/file.txt', "between\n"],
        ['ssi/page.html', '[<!--#include virtual="/proxy/ssi" wait="yes" -->'
            . '|<!--#include virtual="/auth/204" -->'
            . '|<!--#include virtual="/all" -->'
            . '|<!--#echo var="uri" -->]'];

    for my $file (glob($t->dir . '/html/*/*')) {
        utime 1e9, 1e9, $file or die "utime: $!\n";
    }

    my $locations = locations($addr);

    my $own = $which eq 'with' ? 'gate_maintenance own;' : '';

    # the second server has a location that is another to the gate
    my $status = $which eq 'with'
        ? 'gate_maintenance off; location /gate { gate_status; }' : '';

    # two workers might see an answer in the cache before and after it is there
    $t->http(workers => 1, access => '$status $request_method $request_uri',
        <<"EOF");
    root %%DIR%%/html;
    default_type text/plain;
    proxy_http_version 1.1;
    auth_basic_user_file %%DIR%%/users;
    client_max_body_size 8m;

    limit_req_zone \$args zone=req:1m rate=1r/m;
    limit_conn_zone \$server_name zone=conn:1m;
    limit_req_status 503;
    proxy_cache_path %%DIR%%/cache keys_zone=cache:1m use_temp_path=off;

    upstream two { server 127.0.0.1:%%PORT:nobody%%; server $addr backup; }

    $gate{$which}

    server {
        listen 127.0.0.1:%%PORT:http%%;
        server_name localhost;
        rewrite ^/moved/(.*) /proxy/\$1;
        $locations
    }

    server {
        listen 127.0.0.1:%%PORT:http%%;
        server_name server-return;
        return 200 "\$host\\n";
    }

    server {
        listen 127.0.0.1:%%PORT:h2%% http2;
        $locations
        location = /own { $own return 200; }
    }

    server {
        listen 127.0.0.1:%%PORT:status%%;
        access_log off;
        $status
    }
EOF

    return $t->start;
}

# What the backend does, by the end of the URI.

sub answer {
    my ($q) = @_;

    my ($last) = $q->{uri} =~ m{/([^/?]*)(?:\?.*)?$};

    return { status => $last } if $last =~ /^\d\d\d$/;
    return { headers => { 'X-Accel-Redirect' => '/internal/file.txt' } }
        if $last eq 'accel';

    if ($q->{uri} =~ /slice/) {
        my ($from, $to) = ($q->{headers}{range} || '') =~ /bytes=(\d+)-(\d+)/;
        my $body = join '', 'a' .. 'z', 'A' .. 'Z';
        my $part = substr $body, $from, $to - $from + 1;
        $to = $from + length($part) - 1;

        return { status => 206, body => $part, headers => {
            ETag => '"x"', 'Content-Range' => "bytes $from-$to/52" } };
    }

    return {
        body    => "$q->{method} $q->{uri} " . md5_hex($q->{body} // '') . "\n",
        headers => { 'Content-Type' => 'text/plain',
            $q->{uri} =~ /stale/
                ? ('X-Accel-Expires' => '@1') : () },
    };
}

sub locations {
    my ($backend) = @_;

    return <<"EOF" =~ s/BACKEND/$backend/gr;
        location /files/ { autoindex on; }
        location /proxy/ {
            proxy_pass http://BACKEND;
            proxy_set_header Upgrade \$http_upgrade;
            proxy_set_header Connection \$http_connection;
        }
        location /unbuffered {
            proxy_pass http://BACKEND;
            proxy_request_buffering off;
        }
        location /small {
            client_max_body_size 1k;
            proxy_pass http://BACKEND;
        }

        location /any {
            satisfy any;
            deny all;
            auth_basic any;
            proxy_pass http://BACKEND;
        }
        location /any/local {
            satisfy any;
            allow 127.0.0.1;
            deny all;
            auth_basic any;
            proxy_pass http://BACKEND;
        }
        location /all {
            allow 127.0.0.1;
            deny all;
            auth_basic all;
            proxy_pass http://BACKEND;
        }
        location /all/deny {
            deny all;
            auth_basic all;
            proxy_pass http://BACKEND;
        }
        location /auth/ {
            auth_request /ask;
            auth_request_set \$asked \$upstream_status;
            add_header X-Asked \$asked always;
            proxy_pass http://BACKEND/as/user;
        }
        location /auth-any/ {
            satisfy any;
            deny all;
            auth_request /ask;
            proxy_pass http://BACKEND/as/user;
        }
        location = /ask {
            internal;
            proxy_pass http://BACKEND/ask\$request_uri;
            proxy_pass_request_body off;
            proxy_set_header Content-Length "";
        }
        location /limit {
            limit_req zone=req;
            proxy_pass http://BACKEND;
        }
        location /conn {
            limit_conn conn 1;
            proxy_pass http://BACKEND;
        }

        location = /return/text { return 200 "\$uri\\n"; }
        location = /return/redirect { return 301 /files/; }
        location = /return/204 { return 204; }
        location = /return/444 { return 444; }
        location = /return/page { return 410; }
        location = /rewrite/last { rewrite ^ /proxy/last last; }
        location = /rewrite/break {
            rewrite ^ /proxy/break break;
            proxy_pass http://BACKEND;
        }
        location = /rewrite/redirect { rewrite ^ /files/ redirect; }
        location = /rewrite/if { if (\$request_method = GET) { return 403; } }
        location = /rewrite/cycle { rewrite ^ /rewrite/cycle last; }
        location /try/ { try_files \$uri \@named; }
        location /try-code/ { try_files \$uri =404; }
        location \@named { proxy_pass http://BACKEND; }
        location /error/ {
            error_page 403 =200 \@named;
            error_page 404 /files/file.txt;
            error_page 503 /proxy/unavailable;
            proxy_intercept_errors on;
        }
        location = /error/forbidden { error_page 403 =200 \@named; deny all; }
        location = /error/refused { proxy_pass http://127.0.0.1:1; }
        location = /error/upstream {
            error_page 503 /proxy/unavailable;
            proxy_intercept_errors on;
            proxy_pass http://BACKEND/503;
        }
        location /accel { proxy_pass http://BACKEND; }
        location /internal/ { internal; alias %%DIR%%/html/files/; }

        location /ssi/ { ssi on; ssi_types *; }
        @{[ built_with('--with-http_addition_module') ? <<'ADD' : '' ]}
        location /addition/ {
            addition_types *;
            add_before_body /proxy/before;
            add_after_body /proxy/after;
        }
ADD
        @{[ built_with('--with-http_slice_module') ? <<'SLICE' : '' ]}
        location /slice/ {
            slice 26;
            proxy_cache cache;
            proxy_cache_key $uri$slice_range;
            proxy_cache_valid 206 1m;
            proxy_set_header Range $slice_range;
            proxy_pass http://BACKEND;
        }
SLICE
        location /mirror/ { mirror /copy; proxy_pass http://BACKEND; }
        location = /copy {
            internal;
            proxy_pass http://BACKEND/copy\$request_uri;
        }

        location /cache/ {
            proxy_cache cache;
            proxy_cache_valid 1m;
            proxy_cache_bypass \$arg_bypass;
            proxy_cache_key \$uri;
            proxy_cache_use_stale updating;
            proxy_cache_background_update on;
            add_header X-Cache \$upstream_cache_status always;
            proxy_pass http://BACKEND;
        }
        location /use-stale/ {
            proxy_cache cache;
            proxy_cache_use_stale http_500;
            add_header X-Cache \$upstream_cache_status always;
            proxy_pass http://BACKEND;
        }
        location /lock/ {
            proxy_cache cache;
            proxy_cache_lock on;
            proxy_cache_lock_timeout 60s;
            proxy_cache_lock_age 60s;
            proxy_pass http://BACKEND;
        }

        location /filters {
            gzip on;
            gzip_types *;
            gzip_min_length 1;
            add_header X-Added \$request_method;
            expires 1h;
            proxy_pass http://BACKEND;
        }
        @{[ built_with('--with-http_realip_module') ? <<'REALIP' : '' ]}
        location /realip {
            set_real_ip_from 127.0.0.1;
            allow 192.0.2.1;
            deny all;
            add_header X-Client $remote_addr always;
            proxy_pass http://BACKEND;
        }
REALIP
        location /next { proxy_pass http://two; }
EOF
}

sub built_with {
    my ($what) = @_;

    our $configured //= do {
        my $nginx = Gate::which($ENV{NGINX_BIN} || 'nginx');
        `$nginx -V 2>&1`;
    };
    return index($configured, $what) >= 0;
}
