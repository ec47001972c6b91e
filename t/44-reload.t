#!/usr/bin/perl

# Reload storms and killed workers: no request is lost that nginx would not
# have lost, and every number is right afterwards.  GATE_LONG=1 makes it 20 s
# of each.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Gate::Rollout;
use JSON::PP ();
use Test::More;
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

my $SECONDS = $ENV{GATE_LONG} ? 20 : 3;
my $RATE = 500 / Gate::scale();
my $STORM = 0.2 * Gate::scale();    # seconds between reloads
my $SLACK = 10;

my $t = Gate->new;
my $g = Gate::Rollout->new($t);

my $stable = $t->backend('slow', 5, body => 'stable', name => 'stable');
my $canary = $t->backend('slow', 5, body => 'canary', name => 'canary');

sub configure {
    my (%opt) = @_;
    my %o = (rules => 'error_rate=5% min=100', extra => '', %opt);

    $t->http(workers => 2, <<"EOF_CONF");
    gate_state %%DIR%%/state;

    upstream s { server @{[ $stable->addr ]}; }
    upstream c { server @{[ $canary->addr ]}; }
    upstream shop {
        gate_canary s c weight=20% id=1;
        gate_breach $o{rules};
    }
    $o{extra}

    server {
        listen 127.0.0.1:%%PORT:http%%;
        gate_maintenance on;
        add_header X-Worker \$pid;
@{[ $g->endpoints ]}
        location / {
            proxy_pass http://shop;
            proxy_set_header X-Worker \$pid;
        }
        location /extra { proxy_pass http://extra; }
    }
EOF_CONF
}

my $EXTRA = 'upstream extra { gate_canary c s weight=100%; }';

sub now { return clock_gettime(CLOCK_MONOTONIC) }

sub attempts {
    my ($name) = @_;
    my $totals = $g->rollout($name || 'shop')->{totals};
    return $totals->{stable}{attempts} + $totals->{canary}{attempts};
}

# Load while workers are reloaded and perhaps killed: (result, log, kills).

sub storm {
    my ($kill) = @_;

    my $load = $t->load(uri => '/x?%d', rate => $RATE, conns => 30,
        duration => $SECONDS * Gate::scale(), timeout => 20000, log => 1,

        # a request for each connection: none is repeated by the client
        close => $kill);
    my $end = now() + $SECONDS * Gate::scale();
    my ($reloads, $next, @kills) = (0, now() + 1);

    while (now() < $end) {
        select undef, undef, undef, $STORM;
        $t->reload(wait => 0);
        $reloads++;

        if ($kill && now() > $next) {
            $next += 1;
            my ($pid) = $t->workers or next;
            my $at = now();
            push @kills, [$pid, $at]
                if eval { $t->kill_worker('KILL', pid => $pid, wait => 0) };
        }
    }

    my $result = $load->result;
    note sprintf '%d reloads, %d kills, %d requests at %d/s, %d retried, '
        . 'p99 %d ms', $reloads, scalar @kills, $result->{answered},
        $result->{rate}, $result->{retried}, $result->{latency}{p99} / 1000;

    return ($result, [$load->log], \@kills);
}

# After a storm: everything is back to where it was.

sub calm {
    my $took = $t->reload(timeout => 30);
    note sprintf 'old workers were gone after %.2f s', $took;
    cmp_ok($took, '<', 1 * $SLACK * Gate::scale(), 'old workers go');

    my $in = $g->status->{maintenance}{global}{in_flight};
    is_deeply($in, { admitted => 0, bypassed => 0, upgraded => 0 },
        'nobody is in flight');

    my $status = $g->status;
    is_deeply([sort map { $_->{pid} } @{ $status->{workers} }],
        [sort $t->workers], 'the workers that there are');
    ok($status->{agent}{alive}, 'one of them is the agent');
}

configure(extra => $EXTRA);
$t->start;
my $epoch = $g->rollout('shop')->{epoch};

subtest 'a storm of reloads loses no request' => sub {
    my ($result) = storm(0);

    is_deeply($result->{status}, { 200 => $result->{answered} },
        'every answer is 200');
    is_deeply([grep { $_ } values %{ $result->{errors} }], [], 'no error');
    is($result->{answered}, $result->{sent}, 'all were answered');

    calm();
    is(attempts(), $result->{answered}, 'attempts equal the answers');
    my $totals = $g->rollout('shop')->{totals};
    is($totals->{stable}{requests} + $totals->{canary}{requests},
        $result->{answered}, 'and so do requests');
    is($g->rollout('shop')->{epoch}, $epoch, 'the rollout goes on');
};

subtest 'with killed workers only their requests are lost' => sub {
    my $before = attempts();
    $stable->clear;
    $canary->clear;
    my ($result, $log, $kills) = storm(1);
    cmp_ok(scalar @$kills, '>', 0, 'there were kills');

    # who had which request, as far as it got
    my %owner;
    for my $seen ($stable->seen, $canary->seen) {
        my ($n) = $seen->{uri} =~ /\?(\d+)$/;
        $owner{$n} = $seen->{headers}{'x-worker'};
    }

    my %killed = map { $_->[0] => $_->[1] } @$kills;
    my (@lost, @strange);

    for my $r (grep { $_->{err} || ($_->{status} || 0) != 200 } @$log) {
        push @lost, $r;
        my $owner = $owner{ $r->{n} };
        next if $owner && $killed{$owner};

        # one that came no further than its worker when that was killed
        next if !$owner && grep { abs($_->[1] - $r->{end} / 1e6)
            < 0.1 * $SLACK * Gate::scale() } @$kills;
        push @strange, $r;
    }

    is_deeply(\@strange, [], 'every lost request was of a killed worker')
        or diag(explain({ strange => \@strange, kills => $kills,
            owners => [map { $owner{ $_->{n} } } @strange] }));

    my $flying = 0;
    for my $kill (@$kills) {
        my $at = $kill->[1] * 1e6;
        $flying += grep { $_->{start} < $at + 20000 * Gate::scale()
            && $_->{end} > $at - 20000 * Gate::scale() } @$log;
    }

    calm();
    my $attempts = attempts() - $before;
    note sprintf '%d lost, %d attempts for %d answers, %d in flight around '
        . 'the kills', scalar @lost, $attempts, $result->{answered}, $flying;
    cmp_ok(scalar @lost, '<=', $flying, 'none but those in flight');
    cmp_ok(abs($attempts - $result->{answered}), '<=', $flying,
        'attempts equal the answers but for those');
    is($g->rollout('shop')->{state}, 'progressing', 'the rollout goes on');
};

subtest 'what a killed worker was busy with is in flight no more' => sub {
    $_->set('hold') for $stable, $canary;
    my @conns = map { $t->conn(timeout => 30) } 1 .. 10;
    $_->send(GET => '/held') for @conns;
    my $admitted = sub {
        # a worker that dies may still get this request
        my $status = eval { $g->status } or return -1;
        return $status->{maintenance}{global}{in_flight}{admitted};
    };
    wait_for { $admitted->() == 10 } what => 'ten in flight';

    $t->kill_worker('KILL', pid => $_) for $t->workers;
    wait_for { $t->workers == 2 && $admitted->() == 0 } what => 'none';
    is_deeply([sort map { $_->{pid} } @{ $g->status->{workers} }],
        [sort $t->workers], 'the new ones began with nothing');

    $_->close for @conns;
    $_->release for $stable, $canary;
    $stable->set('slow', 5, body => 'stable');
    $canary->set('slow', 5, body => 'canary');
};

SKIP: {
    # this turns the whole machine's pids back: not beside other tests

    skip 'GATE_LONG=1 and root: says which pid comes next', 1
        unless $ENV{GATE_LONG} && -w '/proc/sys/kernel/ns_last_pid';

    subtest 'a dead worker stays dead when its pid is given away' => sub {
        $_->set('hold') for $stable, $canary;
        my @conns = map { $t->conn(timeout => 30) } 1 .. 4;
        $_->send(GET => '/held') for @conns;

        my $admitted = sub {
            my $status = eval { $g->status } or return -1;
            return $status->{maintenance}{global}{in_flight}{admitted};
        };
        wait_for { $admitted->() == 4 } what => 'four in flight';

        # old workers are not replaced, nobody takes their slots

        my @old = $t->workers;
        $t->reload(wait => 0);
        wait_for { grep { my $p = $_; !grep { $_ == $p } @old } $t->workers }
            what => 'new workers';

        my ($busy) = map { $_->{pid} }
            grep { $_->{in_flight} } @{ $g->status->{workers} };
        my $n = (grep { $_->{pid} == $busy } @{ $g->status->{workers} })[0]
            ->{in_flight};
        $t->kill_worker('KILL', pid => $busy, wait => 0);
        wait_for { $admitted->() == 4 - $n } what => 'its requests to go';

        # the agent sweeps once a second: then the pid may come back

        chomp(my $last = Gate::slurp('/proc/sys/kernel/ns_last_pid'));

        my $came = wait_for {
            Gate::spew('/proc/sys/kernel/ns_last_pid', $busy - 1);
            my $pid = fork // die;
            if (!$pid) { sleep 60; require POSIX; POSIX::_exit(0); }
            return $pid if $pid == $busy && $admitted->() == 4 - $n;
            kill 'KILL', $pid;
            waitpid $pid, 0;
            return;
        } timeout => 30, what => 'its pid, and nothing in flight with it';

        Gate::spew('/proc/sys/kernel/ns_last_pid', $last);

        is($came, $busy, 'another process has the pid, and none of its past');

        kill 'KILL', $came;
        waitpid $came, 0;
        $_->close for @conns;
        $_->release for $stable, $canary;
        $stable->set('slow', 5, body => 'stable');
        $canary->set('slow', 5, body => 'canary');
        wait_for { !grep { my $p = $_; grep { $_ == $p } @old }
            $t->workers(all => 1) } timeout => 30, what => 'old workers to go';
    };
}

subtest 'a killed agent is replaced' => sub {
    my $before;
    wait_for { ($before = $g->status->{agent})->{alive} } what => 'an agent';
    my $at = now();
    $t->kill_worker('KILL', pid => $before->{pid}, wait => 0);
    wait_for {
        # the one that dies may still get this request
        my $agent = eval { $g->status->{agent} } or return 0;
        $agent->{alive} && $agent->{pid} != $before->{pid};
    } what => 'another agent';
    note sprintf 'replaced after %.2f s', now() - $at;
    cmp_ok(now() - $at, '<', 1 * $SLACK * Gate::scale(), 'in time');

    $g->api('canary/shop/weight', { weight => 21 });
    wait_for { !$g->status->{state_store}{pending} } what => 'the state';
    is($g->status->{state_store}{error}, undef, 'the state is saved');
    wait_for { $t->workers == 2 } what => 'another worker';
};

subtest 'an agent that is stopped is replaced' => sub {
    my $agent = $g->status->{agent}{pid};

    # ask through the other worker: the stopped one might get connections
    my $c;
    wait_for {
        $c = $t->conn(timeout => 30);
        $c->request(GET => '/gate')->header('x-worker') != $agent;
    } what => 'a connection to another worker';

    kill 'STOP', $agent or die;
    my $now;
    my $ok = eval {
        wait_for {
            $now = $c->request(GET => '/gate')->json->{agent};
            $now->{pid} != $agent && $now->{alive};
        } what => 'another agent';
    };
    kill 'CONT', $agent;
    ok($ok, 'by the other worker') or diag($@);

    # it comes back as a worker like any other
    $g->api('canary/shop/weight', { weight => 22 });
    wait_for { !$g->status->{state_store}{pending} } what => 'the state';
    is($g->status->{agent}{pid}, $now->{pid}, 'which stays the agent');
    is($t->workers, 2, 'both live');
};

subtest 'rollouts come and go, the others stay' => sub {
    $t->get('/extra') for 1 .. 5;
    wait_for { attempts('extra') == 5 } what => 'the attempts';
    my $before = $g->rollout('shop')->{totals};
    my $epoch = $g->rollout('extra')->{epoch};

    configure(extra => 'upstream extra { server ' . $stable->addr . '; }'
        . 'upstream fresh { gate_canary s c weight=5%; }');
    $t->reload;
    is($g->status->{rollouts}{extra}, undef, 'one is gone');
    is($g->rollout('fresh')->{weight}, 5, 'one is new');
    is_deeply($g->rollout('shop')->{totals}, $before, 'one stays');

    configure(extra => $EXTRA);
    $t->reload;
    is($g->rollout('extra')->{epoch}, $epoch, 'one that comes back');
    is(attempts('extra'), 5, 'has its counters');
};

subtest 'other rules begin with fresh evidence' => sub {
    $t->get('/') for 1 .. 10;
    my $n = attempts();
    wait_for { attempts() == $n && $n > 10 || !($n = attempts()) }
        what => 'the attempts';
    my $before = $g->rollout('shop');
    cmp_ok($before->{arms}{stable}{attempts}, '>', 0, 'there is evidence');

    configure(extra => $EXTRA);
    $t->reload;
    is_deeply($g->rollout('shop')->{arms}, $before->{arms},
        'with the same rules it stays');

    configure(extra => $EXTRA, rules => 'error_rate=7% min=100');
    $t->reload;
    my $now = $g->rollout('shop');
    is($now->{arms}{$_}{attempts}, 0, "nothing of $_") for qw(stable canary);
    is($now->{weight}, $before->{weight}, 'the weight stays');
    is($now->{epoch}, $before->{epoch}, 'the epoch stays');
    is_deeply($now->{totals}, $before->{totals}, 'totals stay');
};

# (nginx itself serves nobody after a reload without a master)

subtest 'without a master process' => sub {
    $canary->set('status', 500);
    my $t1 = Gate->new;
    my $g1 = Gate::Rollout->new($t1);
    $t1->http(main => 'master_process off;', workers => 1, <<"EOF_CONF");
    proxy_next_upstream error http_500;
    gate_state %%DIR%%/state;
    upstream s { server @{[ $stable->addr ]}; }
    upstream c { server @{[ $canary->addr ]}; }
    upstream shop {
        gate_canary s c weight=100%;
        gate_breach error_rate=5% min=10;
    }
    server {
        listen 127.0.0.1:%%PORT:http%%;
        gate_maintenance on;
@{[ $g1->endpoints ]}
        location / { proxy_pass http://shop; }
    }
EOF_CONF

    $t1->start;
    is($t1->get('/')->body, 'stable', 'it serves');
    wait_for { $g1->status->{agent}{alive} } what => 'an agent';
    $t1->get('/') for 1 .. 9;
    $g1->wait_state('shop', 'rolled_back');
    wait_for { !$g1->status->{state_store}{pending} } what => 'the state';
    is($g1->rollout('shop')->{last_record}{canary_arm}{attempts}, 10,
        'it flips');
    is($g1->status->{maintenance}{global}{in_flight}{admitted}, 0,
        'nobody is in flight');
    $t1->done;
};

$t->done;
done_testing;
