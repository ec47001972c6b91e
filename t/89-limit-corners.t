#!/usr/bin/perl

# Limits where two things meet: zones in one location of which one is asked
# for nothing, a share that is used up long before the next sync.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Gate::Limits;
use Test::More;

skip_unless_cmd('redis-server');
my $t = Gate->new;
my $r = $t->redis;
my $l = Gate::Limits->new($t, nodes => 1, redis => $r,
    zones => {
        z     => 'key=$arg_k rate=30r/h',
        exact => 'key=$arg_k rate=60r/h sync=exact timeout=5s',
        a     => 'key=$arg_k rate=100r/h sync=10s',
        b     => 'key=$arg_k rate=100r/h sync=10s',
    },
    http => <<'EOF_CONF');
    server {
        listen 127.0.0.1:%%PORT:more%%;

        location = /both {
            gate_limit zone=z;
            gate_limit zone=exact;
            empty_gif;
        }

        location = /cost/a { gate_limit zone=a cost=$arg_c; empty_gif; }
        location = /cost/b { gate_limit zone=b cost=$arg_c; empty_gif; }
        location = /simple/b { gate_limit zone=b; empty_gif; }
    }
EOF_CONF
$l->start;

sub more { return $l->node(0)->get($_[0], port => 'more') }

sub batches { return $l->status(0)->{limits}{ $_[0] }{sync}{batches} }

subtest 'a zone that need not be asked counts nothing' => sub {
    my $before = $l->status(0)->{limits}{exact};
    is(scalar(grep { more('/both?k=both')->status == 200 } 1 .. 30), 30,
        'all of the smaller budget');
    is(more('/both?k=both')->status, 429, 'it refuses');

    my $after = $l->status(0)->{limits}{exact};
    is($after->{$_} - $before->{$_}, $_ eq 'passed' ? 30 : 0,
        "$_ of the other one") for qw(passed limited unlimited observed);
};

# each way to a decision, that of a cost by request and the short one

for my $uri ('/cost/a?k=x&c=1', '/simple/b?k=x') {
    my ($zone) = $uri =~ m{/(\w)\?};

    subtest "who finds the share used up is told of at once, $uri" => sub {
        my $n = batches($zone);
        is(more("/cost/$zone?k=x&c=1")->status, 200, 'a caller');
        wait_for { batches($zone) > $n } what => 'the fleet to know him';
        my $key = "gate#limit:$zone:"
            . more("/cost/$zone?k=x&c=0")->header('X-Hash');

        # eleven others have just taken from it

        my $now = $r->cmd('TIME')->[0];
        $r->cmd('APPEND', $key, join '',
            map { sprintf ' %08x:%d', $_, $now } 1 .. 11);

        $n = batches($zone);
        is(more("/cost/$zone?k=x&c=13")->status, 200, 'more than an eighth');
        wait_for { batches($zone) > $n } what => 'the answer to that';

        is(more("/cost/$zone?k=x&c=12")->status, 200, 'so much may wait');

        # the share is used up; the short way looks twice, and by then Redis
        # may have heard of it

        my $status = more($uri)->status;
        is($status, 429, 'the share is used up') if $zone eq 'a';
        ok(eval { wait_for { more($uri)->status == 200 }
            timeout => 3 }, 'but not for long');
    };
}

$t->done;
done_testing;
