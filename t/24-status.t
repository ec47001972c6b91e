#!/usr/bin/perl

# gate_status: every member, its type, that its numbers are those of the
# traffic, and that it tells no secret.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Test::More;

my $t = Gate->new;
my $token = 'status-test-token-0123';
my $sticky = 'status-test-sticky-key-0123456789abcdef';
my $cursor = 'status-test-cursor-key-0123456789abcdef';

chmod 0600, $t->write_file('token', "ops $token\n"),
    $t->write_file('sticky', "$sticky\n"),
    $t->write_file('cursor', "$cursor\n");

my $v1 = $t->backend('ok', body => 'stable');
my $v2 = $t->backend('ok', body => 'canary');

$t->http(workers => 2, <<"EOF");
    gate_state %%DIR%%/state;
    gate_maintenance_file %%DIR%%/closed switch=shop;
    map \$http_x_operator \$operator { default 0; yes 1; }

    gate_limit_zone per_key key=\$arg_key rate=3r/h;

    upstream v1 { server @{[ $v1->addr ]}; }
    upstream v2 { server @{[ $v2->addr ]}; }
    upstream web {
        gate_canary v1 v2 weight=0% id=7;
        gate_force \$http_x_arm;
        gate_sticky cookie=arm key_file=%%DIR%%/sticky;
        gate_breach error_rate=5% min=10;
        gate_breach p95=2s window=5m min=10 hold=1s;
    }

    server {
        listen 127.0.0.1:%%PORT:http%%;
        gate_maintenance on;
        gate_maintenance_bypass \$operator;
        location / { proxy_pass http://web;
            proxy_next_upstream error timeout http_500; }
        location /shop/ { gate_maintenance shop; return 200 "open\\n"; }
        location /api/ { gate_cursor cursor;
            gate_cursor_key file=%%DIR%%/cursor id=2026a;
            proxy_pass http://v1; }
        location /gate { gate_status; }
        location /gate/api/ { gate_api token_file=%%DIR%%/token; }
    }
EOF

$t->start;

sub status { return $t->get('/gate')->json }

sub call {
    my ($method, $path, $body) = @_;
    return $t->request($method => "/gate/api/$path", headers => {
        Authorization => "Bearer $token",
        'Content-Type' => 'application/json' },
        defined $body ? (body => $body) : ());
}

# n number, s string, b boolean, t time, o object, a array; "?" or null

my $counts = { requests => 'n', attempts => 'n', failures => 'n',
    error_rate => 'n?', unavailable => 'n', broken => 'n', censored => 'n',
    forced => { attempts => 'n', failures => 'n' },
    fallback => { attempts => 'n', failures => 'n' } };
my $arm = { %$counts, upstream => 's', p50_ms => 'n?', p95_ms => 'n?',
    p99_ms => 'n?',
    breaker => { open => 'b', failures => 'n', opened_total => 'n' } };
my $mode = { mode => 's', source => 's?', actor => 's?', since => 't?',
    rev => 'n?', dirty => 'b' };
my $switch = { on => 'b', read_only => 'b', source => 's?', since => 't?',
    observed => 'b', observed_total => 'n', rev => 'n?', dirty => 'b',
    actor => 's?', control => 'o?', file => 'o?', message => 's?',
    retry_after => 'n?', from => 't?', until => 't?',
    in_flight => { admitted => 'n', bypassed => 'n', upgraded => 'n' },
    refused_total => 'n', admitted_total => 'n', bypassed_total => 'n' };

my $schema = {
    version => 's', nginx_version => 's', pid => 'n', node => 's',
    time => 't', boot => 's', generation => 'n', uptime => 'n',
    agent => { pid => 'n', alive => 'b', beat_age_ms => 'n?',
        elections => 'n' },
    zone => { size => 'n', used => 'n', free => 'n', layout => 'n',
        objects => { switches => 'n', rollouts => 'n' } },
    state_store => { path => 's?', locked => 'b', pending => 'b',
        saved_at => 't?', saves => 'n', errors => 'n', error => 's?' },
    files => [{ path => 's', switch => 's' }],
    workers => [{ pid => 'n', generation => 'n', started => 't',
        in_flight => 'n', bypassed => 'n', upgraded => 'n' }],
    redis => 'o?', fleet => 'o?',
    modes => { maintenance => $mode, canary => $mode, limit => $mode,
        cursor => $mode },
    maintenance => { global => $switch, shop => $switch },
    rollouts => { web => {
        stable => 's', canary => 's', id => 's?', state => 's', epoch => 'n',
        step => 'n', since => 't?', epoch_since => 't?', reason => 's?',
        source => 's?', actor => 's?', weight => 'n',
        weight_configured => 'n', weight_differs => 'b',
        actual_share => 'n?', arms => { stable => $arm, canary => $arm },
        saved => 'n', fallbacks => 'n',
        totals => { stable => $counts, canary => $counts },
        flips_total => 'n', verdict => 's', fleet => 'o?', rev => 'n?',
        dirty => 'b', provisional => 'b', opening => 'b', foreign => 'b',
        rules => [{ rule => 's', n => 'n', value => 'n?', bound => 'n',
            min => 'n', window_s => 'n', hold_s => 'n', enough => 'b',
            over => 'b' }],
        last_record => 'o?' } },
    cursors => { '_/api/' => { requests => 'n', with_cursor => 'n',
        adoption => 'n?', status => { map { $_ => 'n' } qw(valid expired
            bad_signature malformed future mismatch duplicate absent) },
        refused => 'n', observed => 'n',
        verify_us => { count => 'n', sum => 'n', le => { map { $_ => 'n' }
            10, 25, 50, 100, 250, 500, 1000, 2500, 5000, '+Inf' } } } },
    cursor_keys => [{ id => 's?', file => 's', alg => 's', live => 'b',
        bad => 'b', weak => 's?', hits => 'n', last_hit => 't?',
        reads => 'n', errors => 'n' }],
    events => ['o'],
};

# Paths whose value is not what the schema says.

sub mismatch {
    my ($v, $s, $path) = @_;

    return map { mismatch($_, $s->[0], "$path\[]") } @$v
        if ref $s eq 'ARRAY' && ref $v eq 'ARRAY';

    if (ref $s eq 'HASH' && ref $v eq 'HASH') {
        return map { exists $v->{$_} ? mismatch($v->{$_}, $s->{$_}, "$path.$_")
            : "$path.$_ is missing" } sort keys %$s;
    }

    return "$path is no " . lc ref $s if ref $s;

    my ($type, $null) = split //, $s;
    return $null ? () : "$path is null" if !defined $v;

    my $ok = $type eq 'n' ? !ref $v && $v =~ /^-?[\d.]+(?:e[-+]?\d+)?$/
        : $type eq 's' ? !ref $v && length $v
        : $type eq 'b' ? JSON::PP::is_bool($v)
        : $type eq 't' ? $v =~ /^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/
        : ref $v eq 'HASH';
    return $ok ? () : "$path is no '$type'";
}

sub complete {
    my ($name) = @_;
    my @wrong = mismatch(status(), $schema, '');
    is_deeply(\@wrong, [], $name);
}

complete('every member is there at the beginning');

$t->get('/') for 1 .. 20;
$t->get('/', headers => { 'X-Arm' => 'always' }) for 1 .. 3;
$t->get('/shop/') for 1 .. 4;
call(POST => 'canary/web/weight', '{"weight": 100}');
$v2->set('ok', status => 500);
$t->get('/') for 1 .. 7;
call(POST => 'maintenance', '{"message": "m", "ttl": 100}');
$t->get('/') for 1 .. 5;
$t->get('/', headers => { 'X-Operator' => 'yes' }) for 1 .. 2;

complete('and after some traffic');

subtest 'the numbers are those of the traffic' => sub {
    my $s = status();
    my ($global, $shop) = @{ $s->{maintenance} }{qw(global shop)};

    is_deeply([ @$global{qw(admitted_total refused_total bypassed_total)} ],
        [30, 5, 2], 'requests under the global switch');
    is_deeply([ @$shop{qw(admitted_total refused_total bypassed_total)} ],
        [4, 0, 0], 'and another one');

    my $web = $s->{rollouts}{web};
    my ($stable, $canary) = @{ $web->{totals} }{qw(stable canary)};

    is($stable->{requests}, 20, 'stable: requests');
    is($stable->{attempts}, 20, 'stable: attempts');
    is($stable->{failures}, 0, 'stable: failures');
    is($stable->{fallback}{attempts}, 9, 'stable: fallbacks');
    is($canary->{requests}, 9, 'canary: requests');
    is($canary->{attempts}, 9, 'canary: attempts');
    is($canary->{failures}, 9, 'canary: failures');
    is_deeply($canary->{forced}, { attempts => 3, failures => 0 },
        'canary: forced');
    is($web->{arms}{canary}{error_rate}, 1, 'error rate of this step');
    is($web->{actual_share}, 100, 'share of this step');
    is($web->{saved}, 9, 'failures that stable made good');
    is($web->{fallbacks}, 9, 'requests that went on to stable');
    is($v1->requests, 29, 'as many as stable has seen');
    is($v2->requests, 12, 'and the canary');
    is($web->{rules}[0]{n}, 9, 'what a rule looks at');
    is($web->{rules}[0]{value}, 1, 'and finds');
    is($web->{rules}[1]{threshold_ms}, 2000, 'a threshold');
    is($web->{weight_differs}, JSON::PP::true, 'another weight than the file');
};

subtest 'who does what' => sub {
    my $s = status();
    my @pids = map { $_->{pid} } @{ $s->{workers} };

    is_deeply([ sort { $a <=> $b } @pids ], [ $t->workers ], 'workers');
    ok((grep { $_ == $s->{agent}{pid} } @pids), 'the agent is one of them');
    is($s->{agent}{alive}, JSON::PP::true, 'and alive');
    is_deeply($s->{files}, [{ path => $t->dir . '/closed',
        switch => 'shop' }], 'files');
    is($s->{maintenance}{global}{actor}, 'ops@127.0.0.1', 'who closed it');
    is($s->{zone}{size}, 16 * 1024 * 1024, 'size of the zone');

    wait_for { $s = status()->{state_store};
        $s->{locked} && !$s->{pending} && $s->{saved_at} }
        what => 'the state to be saved';
    is($s->{error}, undef, 'the state is safe');
};

subtest 'a node on its own has no fleet' => sub {
    my $s = status();
    for my $o ($s->{redis}, $s->{fleet}, $s->{rollouts}{web}{fleet}) {
        is($o, undef, 'null');
    }
    is($s->{rollouts}{web}{rev}, undef, 'no revision');
    ok(!$s->{rollouts}{web}{$_}, $_)
        for qw(dirty provisional opening foreign);
};

subtest 'the documentation asks for nothing that is not there' => sub {
    my $doc = Gate::slurp(Gate::root() . '/docs/operations.md');
    my ($part) = $doc =~ /^## Status\n(.*?)^## /ms;
    my $s = status();
    $s->{rollouts}{shop} = $s->{rollouts}{web};

    my $n = 0;
    for my $jq ($part =~ /^\|[^|]*\| (.*) \|$/mg) {
        for my $query ($jq =~ /`([.\[].*?)`/g) {
            $query =~ s/\\\|/|/g;
            my ($path, $members) = $query =~ /^\[?((?:[\w.\[\]:]|"[^"]*")+?)\]?
                (?:\s*\|\s*(?:\{(.*)\}|add))?$/x;
            ok($path, $query) or next;

            for my $want (defined $members
                ? map { "$path.$_" } split /,\s*/, $members : $path)
            {
                my $v = $s;
                my $ok = 1;
                for my $key (grep { defined }
                    $want =~ /\["(.*?)"|(\w+)(?=[.\[]|$)/g)
                {
                    next if $key =~ /^\d+$/;
                    $v = $v->[0] if ref $v eq 'ARRAY';
                    $ok = ref $v eq 'HASH' && exists $v->{$key} or last;
                    $v = $v->{$key};
                }
                ok($ok, "$want is there");
                $n++;
            }
        }
    }

    cmp_ok($n, '>', 15, "$n members");

    my $web = $s->{rollouts}{web}{arms}{canary};
    ok(exists $web->{$_}, "an arm has $_")
        for qw(attempts failures forced fallback censored unavailable broken);
};

subtest 'how it is asked' => sub {
    my $r = $t->get('/gate');
    is($r->header('content-type'), 'application/json', 'type');
    is($r->header('cache-control'), 'no-store', 'not to be stored');
    unlike($r->body, qr/\n./, 'one line');
    like($t->get('/gate?pretty')->body, qr/^\{\n    "version": /, 'pretty');
    like($t->get('/gate?a=1&pretty=1')->body, qr/\n    "/, 'among others');
    unlike($t->get('/gate?prettyx')->body, qr/\n./, 'not by another name');

    my $head = $t->request(HEAD => '/gate');
    is($head->status, 200, 'HEAD');
    is($head->body, '', 'no body');

    my $c = $t->conn;
    for (qw(POST PUT DELETE OPTIONS PATCH)) {
        my $refused = $c->request($_ => '/gate', body => 'x');
        is($refused->status, 405, $_);
        is($refused->header('allow'), 'GET, HEAD', 'Allow');
    }
    is($c->request(GET => '/gate')->status, 200, 'the connection goes on');
};

subtest 'no secret is told' => sub {
    wait_for { -s $t->dir . '/state/state.json' } what => 'the state file';
    my $text = Gate::slurp($t->dir . '/state/state.json');
    my ($seed) = $text =~ /"secret":\s*(\[[^\]]*\]|"[^"]*")/;
    my @secret = ($seed // '') =~ /(\w{9,})/g;
    ok(scalar @secret, 'the node has a seed');

    my %where = (
        status => $t->get('/gate')->body,
        api => call(GET => '')->body,
        log => $t->log_from(0),
        configuration => scalar `$t->{nginx} -T -p $t->{dir}/ \\
            -c nginx.conf -e $t->{dir}/test.log 2>&1`,
    );

    like($where{configuration}, qr/gate_sticky/, 'nginx -T shows something');

    for my $name (sort keys %where) {
        for my $secret ($token, $sticky, $cursor, @secret) {
            is(index($where{$name}, $secret), -1, $name);
        }
    }

    is((stat $t->dir . '/state/state.json')[2] & 077, 0,
        'nobody else can read the state');
};

$t->done;
done_testing;
