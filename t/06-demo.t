#!/usr/bin/perl

# What the README tells people to type first: make demo.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Gate::Proc qw(kill_hard running spawn wait_exit);
use Test::More;

my $demo = Gate::root() . '/t/tools/demo.pl';
my $t = Gate->new;
my $tmp = $t->dir;

my ($status, $text) = demo(DEMO_SECONDS => 3);

is($status, 0, 'the demo ends well');
like($text, qr/^All promises were kept\.$/m, 'and says so');
unlike($text, qr/\e/, 'without colours, where there is no terminal');
unlike($text, qr/ at \S+ line \d+/, 'and without complaints of perl');

like($text, qr/^ +\d\.\ds +\d+ +\d+\.\d % .* progressing$/m,
    'a table with the share of the canary');
like($text, qr/^== rolled back: shop_v2, release 2026\.11\.2$/m,
    'the canary is rolled back');
like($text, qr/because of +gate_breach error_rate=5% window=30s min=50$/m,
    'by the rule that it broke');
like($text, qr/from the first failed attempt to the flip +\d+ ms$/m,
    'in so many milliseconds');
like($text, qr/client-visible failures prevented +[1-9]\d*$/m,
    'with failures prevented');
like($text, qr/nobody is in any more after \d+ ms \(in_flight 0\)$/m,
    'maintenance drains the site');
like($text, qr/refused in maintenance, 503 with Retry-After +[1-9]\d*$/m,
    'requests are refused in maintenance');
like($text, qr/client errors +0$/m, 'and no client sees an error');

# A gate that lets a failure through: the demo must not hide it.

my $conf = Gate::slurp(Gate::root() . '/conf/canary.conf');
$conf =~ s/proxy_next_upstream [^;]+;/proxy_next_upstream off;/ or die;

($status, $text) = demo(DEMO_SECONDS => 2,
    DEMO_CONF => $t->write_file('careless.conf', $conf));

is($status >> 8, 1, 'where the canary is not caught, the demo fails');
like($text, qr/^not kept: not one client saw an error$/m, 'and says why');

# Ctrl-C.

my $out = "$tmp/interrupted.out";
my $pid = spawn('demo', [$^X, $demo], out => $out, err => $out,
    env => { TMPDIR => $tmp });

wait_for { -e $out && Gate::slurp($out) =~ /progressing/ } timeout => 20,
    what => 'the table';

my @dirs = glob "$tmp/gate-*";
is(@dirs, 1, 'the demo has a directory');
my $master = -e "$dirs[0]/nginx.pid" && Gate::slurp("$dirs[0]/nginx.pid");

kill 'INT', $pid;
$status = wait_exit($pid, 20);
kill_hard($pid) unless defined $status;

is($status, 130 << 8, 'the demo can be interrupted');
ok(!running($master + 0), 'it leaves no nginx behind');
is_deeply([glob "$tmp/gate-*"], [], 'and no directory');

done_testing;


sub demo {
    my (%env) = @_;

    my $file = "$tmp/demo.out";
    my $pid = spawn('demo', [$^X, $demo], out => $file, err => $file,
        env => { TMPDIR => $tmp, %env });

    my $status = wait_exit($pid, 90);
    kill_hard($pid) unless defined $status;

    my $text = Gate::slurp($file);
    note($text);
    return ($status, $text);
}
