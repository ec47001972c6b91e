#!/usr/bin/perl

# A user who may not do everything: without CLIENT or SUBSCRIBE there is no
# push, but the poll still obeys.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Gate::Trial;
use Test::More;

skip_unless_cmd('redis-server');
my $t = Gate->new;
my $r = $t->redis(users => ['gate on >pw ~gate:* ~gate#* '
    . '&__redis__:invalidate +@all']);
my $file = $t->write_file('redis.password', "pw\n");
chmod 0600, $file or die "chmod: $!\n";

my $x = Gate::Trial->new($t, redis => $r,
    address => 'redis://gate@' . $r->addr, options => "password_file=$file");
my $f = $x->fleet;
$x->start;

sub allow {
    my (@rules) = @_;
    $r->cmd('ACL', 'SETUSER', 'gate', @rules);
    $r->cmd('CLIENT', 'KILL', 'USER', 'gate');
}

for my $what (qw(client subscribe)) {
    $x->trial("without \U$what\E",
        break  => sub { allow("-$what") },
        broken => sub {
            $x->links('they poll', sub { $_[0]{state} eq 'ready'
                && $_[0]{tracking} eq 'poll' });
            ok(eval { $x->obeys(timeout => 5) }, 'it is obeyed by the poll')
                || diag($@);
        },
        heal => sub { allow("+$what") },
        after => sub {
            $x->links('changes are pushed',
                sub { $_[0]{tracking} eq 'push' });
        });
}

$x->trial('without scripts', break => sub { allow('-evalsha', '-eval') },
    broken => sub { $x->error('auth') },
    heal => sub { allow('+evalsha', '+eval') });

$x->trial('without a key', break => sub { allow('resetkeys', '~gate:*') },
    broken => sub { $x->error('auth') },
    heal => sub { allow('~gate#*') });

$x->trial('without the right to be there', break => sub { allow('off') },
    broken => sub { $x->away },
    heal => sub { allow('on') });

$t->done;
done_testing;
