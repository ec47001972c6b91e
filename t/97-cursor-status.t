#!/usr/bin/perl

# What gate_status and gate_metrics tell of cursors: by location and by key,
# of all workers, and on and on.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Gate::Cursor;
use JSON::PP ();
use Test::More;

my @status = qw(valid expired bad_signature malformed future mismatch
    duplicate absent);

my $t = Gate->new;
my $dir = $t->dir;
my $token = 'cursor-status-token-01';
my $page = $t->backend('ok', body => 'page');
my $c = Gate::Cursor->new('a-key-of-thirty-two-bytes-or-more');
my $old = Gate::Cursor->new('the-key-before-that-one-of-32-bytes');

sub secret {
    my ($name, $text) = @_;
    chmod 0600, $t->write_file($name, $text);
}

secret(token => "ops $token\n");
secret(key => $c->secret);
secret(old => $old->secret);
secret(short => 'short');

my $site = <<'EOT';
    gate_cursor_key file=%%DIR%%/key id=now;
    gate_cursor_key file=%%DIR%%/old;
    gate_cursor cursor;

    server {
        listen 127.0.0.1:%%PORT:http%% reuseport;
        add_header X-Pid $pid always;
        error_page 404 = @named;

        location /api/ { proxy_pass http://page; }
        location /watched/ { gate_cursor cursor mode=observe;
            proxy_pass http://page; }
        location /some/ { gate_cursor cursor when=$arg_when;
            proxy_pass http://page; }
        location /bound/ { gate_cursor_claim who $arg_who;
            proxy_pass http://page; }
        location = /exact { proxy_pass http://page; }
        location ~ ^/re/.*\.(a|"b\\c")$ { proxy_pass http://page; }
        location ^~ /first/ { proxy_pass http://page; }
        location /jump { return 404; }
        location @named { gate_cursor arg:other; proxy_pass http://page; }
        location /free { gate_cursor off; proxy_pass http://page; }
        location /weak { gate_cursor_key file=%%DIR%%/short id=now;
            proxy_pass http://page; }
        location /gate { gate_status; }
        location /metrics { gate_metrics; }
        location /gate/api/ { gate_api token_file=%%DIR%%/token; }
        #MORE
    }
    server {
        listen 127.0.0.1:%%PORT:http%%;
        server_name shop.example www.shop.example;
        location /api/ { proxy_pass http://page; }
    }
EOT

sub site {
    my ($more, $before) = @_;
    (my $text = $site) =~ s/#MORE/$more || ''/e;
    return (workers => 2, ($before || '')
        . "    upstream page { server @{[ $page->addr ]}; }\n$text");
}

$t->http(site());
$t->start;

sub status { return $t->get('/gate')->json }
sub at { return status()->{cursors}{$_[0]} }

sub metrics {
    my %m;
    for (split /\n/, $t->get('/metrics')->body) {
        next if /^#/;
        /^(nginx_gate_\w+(?:\{(?:[^"}]|"(?:[^"\\]|\\.)*")*\})?) (\S+)\z/
            or die "what is \"$_\"?\n";
        die "\"$1\" is there twice\n" if exists $m{$1};
        $m{$1} = $2;
    }
    return \%m;
}

sub set_mode {
    my ($mode) = @_;
    my $r = $t->request(POST => '/gate/api/modes/cursor',
        headers => { Authorization => "Bearer $token",
            'Content-Type' => 'application/json' },
        body => qq({"mode":"$mode"}));
    is($r->status, 200, "the mode is $mode");
}

sub iso {
    my ($s, $m, $h, $d, $mon, $y) = gmtime $_[0];
    return sprintf '%04d-%02d-%02dT%02d:%02d:%02d.000Z', $y + 1900, $mon + 1,
        $d, $h, $m, $s;
}

# what counters of a location went up by while the code ran

sub grown {
    my ($name, $code) = @_;
    my $was = at($name);
    $code->();
    my $is = at($name);
    my %more = (
        (map { $_ => $is->{$_} - $was->{$_} }
            qw(requests with_cursor refused observed)),
        verified => $is->{verify_us}{count} - $was->{verify_us}{count},
        map { $_ => $is->{status}{$_} - $was->{status}{$_} } @status);
    return { map { $_ => $more{$_} } grep { $more{$_} } keys %more };
}


subtest 'a location that nobody asked has all members, and null' => sub {
    my $s = status();
    my @name = ('_/api/', '_/watched/', '_/some/', '_/bound/', '_/exact',
        '_~ ^/re/.*\.(a|"b\c")$', '_/first/', '_@named', '_/jump',
        '_/weak', 'shop.example/api/');
    ok(exists $s->{cursors}{$_}, $_) for @name;
    ok(!exists $s->{cursors}{$_}, "not $_")
        for '_/free', '_/gate', '_/metrics', '_/gate/api/';

    my $o = $s->{cursors}{'_/api/'};
    my $zero = {
        requests => 0, with_cursor => 0, adoption => undef,
        status => { map { $_ => 0 } @status }, refused => 0, observed => 0,
        verify_us => { count => 0, sum => 0, le => { map { $_ => 0 }
            10, 25, 50, 100, 250, 500, 1000, 2500, 5000, '+Inf' } },
    };
    is_deeply($o, $zero, 'all of it');

    is_deeply($s->{cursor_keys}, [
        { id => 'now', file => "$dir/key", alg => 'HS256', live => JSON::PP::true,
            bad => JSON::PP::false, weak => undef, hits => 0, last_hit => undef,
            reads => 0, errors => 0 },
        { id => undef, file => "$dir/old", alg => 'HS256', live => JSON::PP::true,
            bad => JSON::PP::false, weak => undef, hits => 0, last_hit => undef,
            reads => 0, errors => 0 },
        { id => 'now', file => "$dir/short", alg => 'HS256', live => JSON::PP::true,
            bad => JSON::PP::false, weak => 'short', hits => 0, last_hit => undef,
            reads => 0, errors => 0 },
    ], 'keys, too');
};

my @case = (
    [valid => sub { '/api/?cursor=' . $c->issue(1) }, 200],
    [expired => sub { '/api/?cursor=' . $c->issue(1, age => 700) }, 400],
    [bad_signature => sub {
        '/api/?cursor=' . Gate::Cursor::forged($c->issue(1)) }, 400],
    [malformed => sub { '/api/?cursor=x' }, 400],
    [future => sub { '/api/?cursor=' . $c->issue(1, age => -700) }, 400],
    [duplicate => sub { '/api/?cursor=x&cursor=x' }, 400],
    [absent => sub { '/api/?cursor=' }, 200],
    [absent => sub { '/api/' }, 200],
);

for (@case) {
    my ($what, $uri, $answer) = @$_;
    subtest "what is $what is counted as such" => sub {
        my $more = grown('_/api/', sub {
            is($t->get($uri->())->status, $answer, "status $answer");
        });
        is_deeply($more, {
            requests => 1, $what => 1,
            ($what eq 'absent' ? () : (with_cursor => 1)),
            ($what =~ /absent|duplicate/ ? () : (verified => 1)),
            ($answer == 400 ? (refused => 1) : ()),
        }, 'counted once') or diag explain $more;
    };
}

subtest 'a mismatch is counted, and that it was verified' => sub {
    my $cursor = $c->issue(1, more => ',"who":"me"');
    is_deeply(grown('_/bound/', sub {
        is($t->get("/bound/?who=you&cursor=$cursor")->status, 400, 'refused');
    }), { requests => 1, with_cursor => 1, mismatch => 1, verified => 1,
        refused => 1 }, 'once');
    is_deeply(grown('_/bound/', sub {
        is($t->get("/bound/?who=me&cursor=$cursor")->status, 200, 'passes');
    }), { requests => 1, with_cursor => 1, valid => 1, verified => 1 },
        'and so is one that matches');
};

subtest 'adoption is the share of requests that have a cursor' => sub {
    my $o = at('_/api/');
    is($o->{requests}, 8, 'requests');
    is($o->{with_cursor}, 6, 'with a cursor');
    cmp_ok(abs($o->{adoption} - 0.75), '<', 1e-6, 'adoption');
};

subtest 'what is only observed is not refused' => sub {
    is_deeply(grown('_/watched/', sub {
        is($t->get('/watched/?cursor=x')->status, 200, 'passes');
    }), { requests => 1, with_cursor => 1, malformed => 1, verified => 1,
        observed => 1 }, 'and counted as observed');
};

subtest 'the mode "observe" does the same everywhere, "off" counts nothing' =>
    sub {
    set_mode('observe');
    is_deeply(grown('_/api/', sub {
        is($t->get('/api/?cursor=x')->status, 200, 'passes');
    }), { requests => 1, with_cursor => 1, malformed => 1, verified => 1,
        observed => 1 }, 'counted as observed');

    set_mode('off');
    is_deeply(grown('_/api/', sub {
        is($t->get('/api/?cursor=x')->status, 200, 'passes');
    }), {}, 'not counted');
    is(status()->{modes}{cursor}{mode} // status()->{modes}{cursor}{value},
        'off', 'and the mode is there');
    set_mode('enforce');
};

subtest 'what when= leaves out is not counted' => sub {
    is_deeply(grown('_/some/', sub {
        is($t->get("/some/?cursor=x$_")->status, 200, "passes: $_")
            for '', '&when=', '&when=0';
    }), {}, 'nothing');
    is_deeply(grown('_/some/', sub {
        is($t->get('/some/?cursor=x&when=1')->status, 400, 'does not pass');
    }), { requests => 1, with_cursor => 1, malformed => 1, verified => 1,
        refused => 1 }, 'the others are');
};

subtest 'each location has its own numbers' => sub {
    for (['_/exact', '/exact'], ['_/first/', '/first/x'],
        ['_~ ^/re/.*\.(a|"b\c")$', '/re/x.a'])
    {
        my ($name, $uri) = @$_;
        is_deeply(grown($name, sub { $t->get("$uri?cursor=x") }),
            { requests => 1, with_cursor => 1, malformed => 1, verified => 1,
                refused => 1 }, $name);
    }
    is_deeply(grown('_@named', sub { $t->get('/jump?other=x') }),
        { requests => 1, with_cursor => 1, malformed => 1, verified => 1,
            refused => 1 }, '_@named');
    is_deeply(grown('shop.example/api/', sub {
        $t->get('/api/?cursor=x', headers => { Host => 'www.shop.example' })
    }), { requests => 1, with_cursor => 1, malformed => 1, verified => 1,
        refused => 1 }, 'of another server');
    is_deeply(grown('_/api/', sub {
        $t->get('/free?cursor=x'); $t->get('/gate?cursor=x') }), {},
        'and others none');
};

subtest 'hits of a key, and when the last one was' => sub {
    my $before = time - 1;
    my $hits = status()->{cursor_keys}[1]{hits};
    my $r = $t->get('/api/?cursor=' . $old->issue(1));
    is($r->status, 200, 'a cursor of the second key');

    my $k = status()->{cursor_keys}[1];
    is($k->{hits}, $hits + 1, 'is a hit');
    like($k->{last_hit}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\z/,
        'the time of it');
    cmp_ok($k->{last_hit}, 'ge', iso($before), 'not before');
    cmp_ok($k->{last_hit}, 'le', iso(time + 1), 'nor after');

    is_deeply(grown('_/api/', sub {
        $t->get('/api/?cursor=' . $c->issue(1, age => 700)) }),
        { requests => 1, with_cursor => 1, expired => 1, verified => 1,
            refused => 1 }, 'an expired one');
    is(status()->{cursor_keys}[1]{hits}, $hits + 1, 'is none');
};

subtest 'the metrics say what the status says' => sub {
    my $s = status();
    my $m = metrics();

    for my $name (sort keys %{ $s->{cursors} }) {
        my $o = $s->{cursors}{$name};
        (my $l = $name) =~ s/([\\"])/\\$1/g;
        $l = qq(location="$l");
        is_deeply({ map { $_ => $m->{"nginx_gate_cursor_requests_total"
            . "{$l,status=\"$_\"}"} } @status }, $o->{status},
            "$name: status");
        is($m->{"nginx_gate_cursor_refused_total{$l}"}, $o->{refused},
            "$name: refused");
        is($m->{"nginx_gate_cursor_observed_total{$l}"}, $o->{observed},
            "$name: observed");

        my $h = 'nginx_gate_cursor_verify_seconds';
        my $v = $o->{verify_us};
        is($m->{"${h}_count{$l}"}, $v->{count}, "$name: verified");
        cmp_ok(abs($m->{"${h}_sum{$l}"} * 1e6 - $v->{sum}), '<=', 1,
            "$name: time of that");
        my %le = map { /^\Q${h}_bucket{$l\E,le="(.*)"\}\z/
            ? (($1 eq '+Inf' ? $1 : sprintf '%.0f', $1 * 1e6) => $m->{$_})
            : () } keys %$m;
        is_deeply(\%le, $v->{le}, "$name: buckets");

        my @le = @{ $v->{le} }{ sort { $a <=> $b }
            grep { $_ ne '+Inf' } keys %{ $v->{le} } };
        is_deeply([ sort { $a <=> $b } @le ], \@le, "$name: never falling");
        cmp_ok($le[-1], '<=', $v->{le}{'+Inf'}, "$name: nor above the count");
        is($v->{le}{'+Inf'}, $v->{count}, "$name: which is the last one");
    }

    # two files with one id are one series

    my %hits = map { $_->{id} // $_->{file} => $_->{hits} }
        @{ $s->{cursor_keys} };
    is_deeply({ map { /key_hits_total\{key="(.*)"\}/ ? ($1 => $m->{$_}) : () }
        keys %$m }, \%hits, 'hits of keys');
    is_deeply([ sort map { /key_errors_total\{key="(.*)"\}/ ? $1 : () }
        keys %$m ], [ sort keys %hits ], 'and errors');
};

subtest 'the API has the same' => sub {
    my $r = $t->get('/gate/api/', headers => {
        Authorization => "Bearer $token" });
    is_deeply($r->json->{cursors}, status()->{cursors}, 'cursors');
    is_deeply($r->json->{cursor_keys}, status()->{cursor_keys}, 'keys');
};

subtest 'all workers count together' => sub {
    my %pid;
    my $n = 0;
    is_deeply(grown('_/exact', sub {
        while (keys %pid < 2 && $n < 500) {
            $pid{ $t->get('/exact?cursor=' . $c->issue(1))
                ->header('x-pid') } = 1;
            $n++;
        }
        is(keys %pid, 2, 'both were asked');
    }), { requests => $n, with_cursor => $n, valid => $n, verified => $n },
        'each request');
};

subtest 'a reload and a killed worker forget nothing' => sub {
    my $was = status();
    $t->reload;
    my $is = status();
    is_deeply($is->{cursors}, $was->{cursors}, 'a reload');
    is_deeply($is->{cursor_keys}, $was->{cursor_keys}, 'of keys');
    $t->kill_worker;
    is_deeply(status()->{cursors}, $was->{cursors}, 'a killed worker');
};

subtest 'a location that goes and comes back has its numbers' => sub {
    my $was = at('_/first/');
    cmp_ok($was->{requests}, '>', 0, 'it has some');
    (my $less = $site) =~ s{location \^~ /first/.*}{};
    $t->http("    upstream page { server @{[ $page->addr ]}; }\n$less");
    $t->reload;
    ok(!at('_/first/'), 'it is gone');
    $t->http(site());
    $t->reload;
    is_deeply(at('_/first/'), $was, 'it is back');
};

subtest 'a reload that fails late has changed nothing' => sub {
    my $was = status();
    # nobody has that address
    $t->http(site("listen 192.0.2.1:%%PORT:http%%;\n"
        . '        location /new/ { proxy_pass http://page; }'));
    $t->allow(qr/192\.0\.2\.1/);
    my $from = $t->log_size;
    $t->reload(may_fail => 1);
    $t->wait_log(qr/192\.0\.2\.1/, from => $from);
    my $is = status();
    is_deeply($is->{cursors}, $was->{cursors}, 'nothing');
    is_deeply(grown('_/api/', sub {
        $t->get('/api/?cursor=' . $c->issue(1)) }),
        { requests => 1, with_cursor => 1, valid => 1, verified => 1 },
        'and it goes on');
    $t->http(site());
    $t->reload;
};

subtest 'a zone of another size begins anew' => sub {
    $t->http(site('', "    gate_zone 8m;\n"));
    $t->reload;
    my $s = status();
    is($s->{cursors}{'_/api/'}{requests}, 0, 'locations');
    is($s->{cursor_keys}[0]{hits}, 0, 'keys');
};

subtest 'names that nobody would choose' => sub {
    my $long = 'x' . "\xc3\xa4" x 80;
    $t->http(workers => 1, <<"EOT");
    upstream page { server @{[ $page->addr ]}; }
    gate_cursor_key file=%%DIR%%/key;
    gate_cursor cursor;
    server {
        listen 127.0.0.1:%%PORT:http%% reuseport;
        location "/a b\\t\\"\xe4" { proxy_pass http://page; }
        location /$long { proxy_pass http://page; }
        location /${long}2 { proxy_pass http://page; }
        location "/\xfe" { proxy_pass http://page; }
        location "/\xff" { proxy_pass http://page; }
        location /gate { gate_status; }
        location /metrics { gate_metrics; }
    }
EOT
    $t->reload;
    $t->get('/%FE?cursor=x');
    $t->get('/%FF?cursor=x');
    my $s = status();
    my @name = sort keys %{ $s->{cursors} };
    is(scalar @name, 4, 'what is equal where it is cut is one')
        or diag explain \@name;
    cmp_ok(length $_, '<=', 128, 'none is too long') for @name;
    is($s->{cursors}{'_/?'}{refused}, 2, 'and what is no text is one, too');
    my @line = grep { /^nginx_gate_cursor_refused_total/ }
        split /\n/, $t->get('/metrics')->body;
    is(scalar @line, 4, 'as many series');
};

subtest 'names beyond 512 share one object' => sub {
    my $many = Gate->new;
    my $conf = sub {
        my ($from, $to) = @_;
        my $l = join '', map { "        location /l$_/ {"
            . " proxy_pass http://page; }\n" } $from .. $to;
        $many->http(workers => 1, <<"EOT");
    upstream page { server @{[ $page->addr ]}; }
    gate_cursor_key file=$dir/key;
    gate_cursor cursor;
    server {
        listen 127.0.0.1:%%PORT:http%%;
        gate_cursor cursor;
$l
        location /gate { gate_status; }
        location /metrics { gate_metrics; }
    }
EOT
    };
    $conf->(1, 515);
    $many->start;
    $many->get("/l$_/") for 1, 1, 515, 515;

    my $s = $many->get('/gate')->json->{cursors};
    is(scalar keys %$s, 513, 'one more than that');
    my $sum = 0;
    $sum += $_->{requests} for values %$s;
    is($sum, 4, 'each request is counted once');
    ok($s->{'(others)'}, 'the others have a name');

    my $text = $many->get('/metrics')->body;
    is(scalar(() = $text =~ /cursor_refused_total\{location="\(others\)"\}/g),
        1, 'and one series');

    $conf->(600, 700);
    $many->reload;
    $many->get("/l$_/") for 600, 650, 700;
    $s = $many->get('/gate')->json->{cursors};
    is_deeply([sort keys %$s], ['(others)', '_'], 'later ones are all there');
    cmp_ok($s->{'(others)'}{requests}, '>=', 3, 'and counted');
    $many->done;
};

subtest 'without cursors there is nothing' => sub {
    $t->http(<<'EOT');
    server {
        listen 127.0.0.1:%%PORT:http%% reuseport;
        location /gate { gate_status; }
        location /metrics { gate_metrics; }
    }
EOT
    $t->reload;
    my $s = status();
    is_deeply($s->{cursors}, {}, 'no location');
    is_deeply($s->{cursor_keys}, [], 'no key');
    is_deeply([ grep { /cursor_/ } keys %{ metrics() } ], [], 'no metric');
};

$t->done;
done_testing;
