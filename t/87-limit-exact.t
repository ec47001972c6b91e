#!/usr/bin/perl

# sync=exact: Redis decides about each request, for all nodes and workers.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Test::More;
use Time::HiRes qw(sleep time);

skip_unless_cmd('redis-server');
my $t = Gate->new;
my $r = $t->redis;
my $echo = $t->backend('echo');
my $wait = Gate::scale() > 1 ? 10 : 5;      # s

my $zones = join "\n    ", map {
    my ($name, $rest) = @$_;
    "gate_limit_zone $name key=\$arg_key $rest;"
} ['slow', "rate=1r/h burst=4 sync=exact timeout=${wait}s"],
    ['fast', "rate=100r/s burst=20 sync=exact timeout=${wait}s"],
    ['two', "rate=1r/h burst=1 sync=exact timeout=${wait}s"],
    ['here', 'rate=1r/h burst=1 sync=off'];

my $fleet = $t->fleet(2, workers => 2, <<"EOF_CONF");
    gate_redis redis://@{[ $r->addr ]};
    $zones

    server {
        listen 127.0.0.1:%%PORT:http%%;
        listen 127.0.0.1:%%PORT:h2%% http2;
        add_header X-Pid \$pid always;
        add_header X-Limit \$gate_limit_status always;

        location = /gate { gate_status; }
        location = /slow { gate_limit zone=slow; empty_gif; }
        location = /fast { gate_limit zone=fast; empty_gif; }
        location = /cost { gate_limit zone=slow cost=\$arg_cost; empty_gif; }
        location = /both {
            gate_limit zone=slow;
            gate_limit zone=two;
            empty_gif;
        }
        location = /mixed {
            gate_limit zone=slow;
            gate_limit zone=here;
            empty_gif;
        }
        location = /echo {
            gate_limit zone=slow;
            proxy_pass http://@{[ $echo->addr ]};
        }
        location = /auth { gate_limit zone=slow; empty_gif; }
        location = /guarded { auth_request /auth; empty_gif; }
        location = /mirrored { mirror /slow; empty_gif; }
    }
EOF_CONF

my ($one, $two) = $fleet->nodes;
my $number = 0;

sub key { return 'k' . ++$number }

# Asks each worker of each node in turn, n times in all.

sub around {
    my ($uri, $n) = @_;
    my @answers;
    push @answers, map { $_->[2] } $fleet->ask($uri) while @answers < $n;
    return @answers[0 .. $n - 1];
}

sub statuses { return join ' ', map { $_->status } @_ }

sub sorted { return join ' ', sort map { $_->status } @_ }

# What Redis has, by zone: seconds of debt.

sub debts {
    my %debts;
    my $now = $r->cmd('TIME');

    for my $key (@{ $r->cmd('KEYS', 'gate#limit:*') }) {
        my ($zone) = $key =~ /limit:(\w+):/;
        my ($us) = ($r->cmd('GET', $key) || '0') =~ /^(\d+)/;
        $debts{$zone} = $us / 1e6 - $now->[0];
    }

    return \%debts;
}

sub forget {
    $r->cmd('DEL', $_) for @{ $r->cmd('KEYS', 'gate#limit:*') };
}

# Every worker asks Redis: before that, it decides alone.

sub asked {
    my $ok = eval { wait_for {
        forget();
        $fleet->ask('/slow?key=' . key());
        @{ $r->cmd('KEYS', 'gate#limit:slow:*') } == 1
            && debts()->{slow} > 3 * 3600;
    } timeout => 20 };
    ok($ok, 'all workers ask') || diag(explain(debts()));
}

$fleet->start;
asked();

my $alone = 0;
$alone += $_->get('/gate')->json->{limits}{slow}{fallback} for $fleet->nodes;

subtest 'one budget for all workers of all nodes' => sub {
    my $key = key();
    my @answers = around("/slow?key=$key", 12);
    is(sorted(@answers), '200 200 200 200 200' . ' 429' x 7,
        'five of twelve are admitted');

    my @limited = grep { $_->status == 429 } @answers;
    my @left = sort map { ($_->header('ratelimit') || '') =~ /r=(\d+)/ }
        @answers;
    is("@left", '0 0 0 0 0 0 0 0 1 2 3 4', 'each answer says what is left');
    is(join(' ', sort map { $_->header('x-limit') } @answers),
        join(' ', ('limited') x 7, ('passed') x 5), 'so do the variables');
    is(scalar(grep { ($_->header('retry-after') || 0) > 3590 } @limited), 7,
        'a refusal says when to come back');
    is(($one->get("/slow?key=" . key()))->status, 200, 'another key is '
        . 'another budget');
};

subtest 'never above capacity and rate' => sub {
    my ($key, $seconds) = (key(), 3);
    my @loads = map { $_->load(port => $_->port, uri => "/fast?key=$key",
        rate => 200, duration => $seconds, conns => 20,
        timeout => 1000 * $wait, log => 1) } $fleet->nodes;
    my @log = map { $_->result; $_->log } @loads;

    is(scalar(grep { $_->{status} != 200 && $_->{status} != 429 } @log), 0,
        'every request is answered') || diag(explain(
            [grep { $_->{status} !~ /200|429/ } @log]));

    my @passed = sort { $a->{end} <=> $b->{end} }
        grep { $_->{status} == 200 } @log;
    my ($first) = sort { $a <=> $b } map { $_->{start} } @passed;
    my ($n, $over) = (0, -1e9);

    for my $p (@passed) {
        my $above = ++$n - 21 - 100 * ($p->{end} - $first) / 1e6;
        $over = $above if $above > $over;
    }

    cmp_ok($over, '<=', 0, 'admitted <= 21 + 100 t, at each t');
    my $budget = 21 + 100 * ($passed[-1]{end} - $first) / 1e6;
    cmp_ok($n, '>=', 0.9 * $budget, 'and what there is is given out')
        || diag("$n of $budget");
    note(sprintf '%d of %.1f admitted, at most %.2f above', $n, $budget,
        $over);
};

subtest 'cost' => sub {
    my $key = key();
    my $uri = "/cost?key=$key&cost=";
    my @n = (3, 3, 0, 2, 1, 0);
    is(statuses(map { my $c = $_; ($fleet->nodes)[$c % 2]->get("$uri$c") }
        @n), '200 429 200 200 429 200', 'several units at once');
    my $never = $one->get($uri . 6);
    is($never->status, 429, 'what is more than all of them');
    is($never->header('retry-after'), undef, 'is never had');
};

subtest 'all or nothing' => sub {
    forget();
    my $key = key();
    is(sorted(around("/both?key=$key", 4)), '200 200 429 429',
        'the smaller budget counts');

    my $debts = debts();
    cmp_ok(abs($debts->{slow} - 7200), '<', 60, 'what it refuses is not '
        . 'taken from the other');
    cmp_ok(abs($debts->{two} - 7200), '<', 60, 'nor from itself');
    is(sorted(around("/slow?key=$key", 4)), '200 200 200 429',
        'the other one has the rest');

    my $limited = $one->get("/both?key=$key");
    is($limited->status, 429, 'both of them may be spent');
};

subtest 'with a limit of the node alone' => sub {
    forget();
    my $key = key();
    is(statuses(map { $one->get("/mixed?key=$key") } 1 .. 4),
        '200 200 429 429', 'the one of the node refuses');
    cmp_ok(debts()->{slow} / 3600, '<', 3 + 2 + 0.1, 'and takes nothing '
        . 'from the fleet\'s') || diag(explain(debts()));
};

subtest 'bodies' => sub {
    my $key = key();
    my $body = 'x' x 200_000;
    my $answer = $one->post("/echo?key=$key", body => $body);
    is($answer->status, 200, 'a request with a body waits');
    is($answer->json->{body}, $body, 'and brings all of it');

    my $c = $one->conn;
    my @got = map { $c->request(POST => "/echo?key=$key",
        body => "body $_") } 1 .. 6;
    is(statuses(@got), '200 200 200 200 429 429', 'on one connection');
    is($got[2]->json->{body}, 'body 3', 'with their own bodies');
};

subtest 'requests that come at once' => sub {
    my $key = key();
    my $c = $one->conn;
    $c->write(join '', map { "GET /slow?key=$key&n=$_ HTTP/1.1\r\n"
        . "Host: localhost\r\n\r\n" } 1 .. 8);
    is(statuses(map { $c->recv } 1 .. 8), '200 200 200 200 200 429 429 429',
        'are answered in their order');
};

subtest 'HTTP/2' => sub {
    my $nghttp = skip_unless_cmd('nghttp', 1);
    my $key = key();
    my @urls = map { 'http://127.0.0.1:' . $one->port('h2')
        . "/slow?key=$key&n=$_" } 1 .. 9;
    my $out = `$nghttp -nv -t 20 @{[ map { "'$_'" } @urls ]} 2>&1`;
    is(join(' ', sort $out =~ /:status: (\d+)/g), '200 200 200 200 200 429 '
        . '429 429 429', 'streams of one connection have one budget')
        || diag($out);
};

subtest 'subrequests' => sub {
    forget();
    my $key = key();
    is(statuses(map { $one->get("/guarded?key=$key") } 1 .. 7),
        join(' ', (200) x 7), 'auth_request is not limited');
    is(statuses(map { $one->get("/mirrored?key=$key") } 1 .. 7),
        join(' ', (200) x 7), 'mirror is not');
    is_deeply(debts(), {}, 'and nobody was asked');
};

subtest 'a Redis that forgot' => sub {
    my $key = key();
    my @before = map { $one->get("/slow?key=$key") } 1 .. 5;
    is(statuses(@before), '200 200 200 200 200', 'a budget is spent');
    forget();
    is($one->get("/slow?key=$key")->status, 429, 'the node remembers it');
};

subtest 'nobody decided alone' => sub {
    my %sum;

    for my $node ($fleet->nodes) {
        my $slow = $node->get('/gate')->json->{limits}{slow};
        $sum{$_} += $slow->{exact}{$_} for qw(asked timeouts);
        $sum{fallback} += $slow->{fallback};
    }

    cmp_ok($sum{asked}, '>', 50, 'questions are counted');
    is($sum{timeouts}, 0, 'none of them timed out');
    is($sum{fallback}, $alone, 'nothing was decided without Redis');
};

$fleet->each(sub { $_[0]->log_unlike(qr/without Redis/,
    'nobody went alone') });
$fleet->each(sub {
    my @lines = $_[0]->log_from(0) =~ /(\[notice\].*connected to Redis.*)/g;
    is(scalar @lines, 1, 'of three connections one is told');
});

$fleet->stop;
$t->done;
done_testing;
