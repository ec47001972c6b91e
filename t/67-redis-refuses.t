#!/usr/bin/perl

# Redis answers, but not what was asked for: passwords, rights, limits.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Gate::Trial;
use Test::More;

skip_unless_cmd('redis-server');
my $t = Gate->new;

my $secret = 'correct-horse';
my $r = $t->redis(requirepass => $secret);
my $file = $t->write_file('redis.password', "$secret\n");
chmod 0600, $file or die "chmod: $!\n";

my $x = Gate::Trial->new($t, redis => $r, options => "password_file=$file");
my $f = $x->fleet;
$x->start;

sub password {
    my ($text) = @_;
    $t->write_file('redis.password.new', "$text\n");
    chmod 0600, "$file.new" or die "chmod: $!\n";
    rename "$file.new", $file or die "rename: $!\n";
}

sub cut_off {
    $r->cmd('CLIENT', 'KILL', 'TYPE', $_, 'SKIPME', 'yes')
        for qw(normal pubsub);
}

sub logs {
    my ($re, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    for my $node ($f->nodes) {
        ok(eval { $node->wait_log($re) }, "$name: node " . $node->number)
            || diag($@);
    }
}

$x->trial('the password is wrong, then corrected in its file',
    break => sub { password('wrong'); cut_off() },
    broken => sub { $x->away; logs(qr/WRONGPASS/, 'it is told') },
    heal => sub { password($secret) });

$x->trial('the password was changed in Redis, then in its file',
    break => sub { $r->config(requirepass => 'new-one'); cut_off() },
    broken => sub { $x->away; $x->error('auth') },
    heal => sub { password('new-one') });

$x->trial('Redis lets anybody in, which is not what was asked for',
    break => sub { $r->config(requirepass => ''); cut_off() },
    broken => sub { $x->away },
    heal => sub { $r->config(requirepass => 'new-one') });

$x->trial('all scripts are flushed',
    break => sub { $r->cmd('SCRIPT', 'FLUSH') }, heal => sub { });

$x->trial('the memory of Redis is full',
    break => sub {
        $r->cmd('SET', 'gate:maintenance:probe', 'on');
        $f->converge(503, uri => '/probe');
        $r->config(maxmemory => 1, 'maxmemory-policy' => 'noeviction');
    },
    broken => sub {
        like($r->try('SET', 'x', 'y'), qr/^OOM/, 'it is');
        $r->cmd('DEL', 'gate:maintenance:probe');
        ok(eval { $f->converge(200, uri => '/probe') }, 'DEL is obeyed')
            || diag($@);
        $x->error('memory');
    },
    heal => sub { $r->config(maxmemory => 0) });

$x->trial('there are too many clients',
    break => sub {
        $r->config(maxclients => 1);
        cut_off();
    },
    broken => sub { $x->away; $x->error('limit') },
    heal => sub { $r->config(maxclients => 1000) });

$x->trial('it is a replica of late: READONLY',
    break => sub { $r->cmd('REPLICAOF', '127.0.0.1', $t->port('nobody')) },
    broken => sub {
        like($r->try('SET', 'x', 'y'), qr/^READONLY/, 'it is');
        $x->away;
        $x->error('role');
    },
    heal => sub { $r->cmd('REPLICAOF', 'NO', 'ONE') });

for my $node ($f->nodes) {
    my $log = $node->log_from(0);
    my @shown = grep { index($log, $_) >= 0 } $secret, 'new-one';
    is_deeply(\@shown, [], 'no password is in the log of node '
        . $node->number);
}

$t->done;
done_testing;
