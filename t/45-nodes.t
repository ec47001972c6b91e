#!/usr/bin/perl

# Nothing piles up: memory, descriptors, threads, files.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Gate::Rollout;
use Test::More;

my $t = Gate->new;
my $g = Gate::Rollout->new($t);

my $stable = $t->backend('ok', body => 'stable', name => 'stable');
my $canary = $t->backend('ok', body => 'canary', name => 'canary');
my $closed = $t->dir . '/closed';

$t->http(workers => 2, <<"EOF_CONF");
    proxy_http_version 1.1;
    proxy_set_header Connection '';
    proxy_next_upstream error http_500;
    gate_state %%DIR%%/state;
    gate_maintenance_file $closed;

    upstream s { server @{[ $stable->addr ]}; keepalive 16; }
    upstream c { server @{[ $canary->addr ]}; keepalive 16; }
    upstream shop {
        gate_canary s c weight=20% id=1;
        gate_key \$arg_key;
        gate_breach error_rate=50% min=100;
        gate_breach p95=30s min=100;
        gate_breach latency_ratio=100 min=100;
    }

    server {
        listen 127.0.0.1:%%PORT:http%%;
        gate_maintenance on;
@{[ $g->endpoints ]}
        location / { proxy_pass http://shop; }
    }
EOF_CONF

$t->start;

sub rss {
    my ($pid) = @_;
    return Gate::slurp("/proc/$pid/status") =~ /^VmRSS:\s+(\d+) kB/m ? $1 : 0;
}

sub entries {
    my ($pid, $what) = @_;
    my @found = glob "/proc/$pid/$what/*";
    return scalar @found;
}

sub load {
    my ($n) = @_;
    my $result = $t->load(uri => '/x?key=%d', rate => 3000 / Gate::scale(),
        duration => $n / 3000 * Gate::scale(), conns => 20)->result;
    return $result->{status}{200};
}

subtest 'memory does not grow with requests' => sub {
    plan(skip_all => 'a sanitizer keeps what is freed') if $ENV{SANITIZE};

    load(4000);
    my %before = map { $_ => rss($_) } $t->workers;
    cmp_ok(load(20000), '>', 15000, 'many requests');
    my %after = map { $_ => rss($_) } $t->workers;

    is_deeply([sort keys %after], [sort keys %before], 'the same workers');
    for my $pid (sort keys %before) {
        my $more = $after{$pid} - $before{$pid};
        note "worker $pid: $before{$pid} kB, then $more kB more";
        cmp_ok($more, '<', 2048, 'less than 0.1 KB for each');
    }
};

subtest 'nor does looking at it' => sub {
    plan(skip_all => 'a sanitizer keeps what is freed') if $ENV{SANITIZE};

    $g->status, $t->get('/gate-metrics') for 1 .. 50;
    my %before = map { $_ => rss($_) } $t->workers;
    $g->status, $t->get('/gate-metrics') for 1 .. 500;

    for my $pid (sort keys %before) {
        my $more = rss($pid) - $before{$pid};
        note "worker $pid: $more kB more";
        cmp_ok($more, '<', 1024, 'status and metrics');
    }
};

subtest 'reloads leave no descriptors, threads or memory of the zone' => sub {
    my $settled = sub {
        wait_for { $g->status->{agent}{alive} } what => 'an agent';
        wait_for { !$g->status->{state_store}{pending}
            && $g->status->{state_store}{locked} } what => 'the state';

        # the files have been looked at, too
        $t->write_file('closed', 'on');
        wait_for { $g->status->{maintenance}{global}{on} } what => 'the file';
        unlink $closed or die;
        wait_for { !$g->status->{maintenance}{global}{on} } what => 'no file';

        my $agent = $g->status->{agent}{pid};
        my ($other) = grep { $_ != $agent } $t->workers;
        wait_for { entries($agent, 'fd') == entries($other, 'fd') + 1 }
            what => 'connections to be closed';

        return { 'descriptors of the master' => entries($t->pid, 'fd'),
            'of the agent' => entries($agent, 'fd'),
            'of the other worker' => entries($other, 'fd'),
            'threads of the master' => entries($t->pid, 'task'),
            'threads of the agent' => entries($agent, 'task'),
            'threads of the other' => entries($other, 'task'),
            'zone' => $g->status->{zone}{used} };
    };

    $t->reload;        # connections to the backends are closed
    my $before = $settled->();
    # a second thread would cost each request of that worker dearly

    is($before->{'threads of the agent'}, 1, 'the agent has one thread');
    is($before->{'threads of the other'}, 1, 'so have the others');
    is($before->{'threads of the master'}, 1, 'and the master');

    for (1 .. 8) {
        $t->reload;
        $t->kill_worker('KILL', pid => $g->status->{agent}{pid}) if $_ % 4 == 0;
    }

    is_deeply($settled->(), $before, 'after 8 reloads and 2 kills');
    is_deeply([sort map { m{([^/]+)$} } glob $t->dir . '/state/*'],
        ['lock', 'state.json'], 'two files in the directory');
};

subtest 'steps and epochs take no more of the zone' => sub {
    my $used = $g->status->{zone}{used};
    for my $weight (1 .. 20) {
        $g->api('canary/shop/weight', { weight => $weight });
        $g->api('canary/shop/start') if $weight % 5 == 0;
    }
    is($g->status->{zone}{used}, $used, 'after 20 steps and 4 epochs');
    is(@{ $g->status->{events} }, 20, 'the status lists the last events');
};

$t->done;
done_testing;
