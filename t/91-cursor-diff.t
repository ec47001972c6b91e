#!/usr/bin/perl

# What the core says of a cursor is what a service in Python would say, over
# many of them: issued ones, odd ones, hostile ones.  t/lib/cursor_ref.py has
# the rules, CPython the JSON, the floats and the HMAC.
#
# GATE_DIFF=n says how many envelopes, and a quarter of that of each other
# format; GATE_DIFF_SEED=n says which.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Test::More;

skip_unless_cmd('python3');

my $count = $ENV{GATE_DIFF} || 30_000;
my $seed = $ENV{GATE_DIFF_SEED} || 1;
my $root = Gate::root();
my $driver = ($ENV{GATE_BUILD} || "$root/build") . '/t/cursor_check';

-x $driver or plan skip_all => 'no drivers: make builds them';

# Runs the reference: its exit code and output.

sub reference {
    my (@args) = @_;

    open my $fh, '-|', 'python3', '-B', "$root/t/lib/cursor_ref.py", @args
        or die "python3: $!\n";
    my $out = do { local $/ = undef; <$fh> } // '';
    close $fh;

    return ($? >> 8, $out);
}


subtest 'the rules themselves' => sub {
    my ($rc, $out) = reference('selftest');
    is($rc, 0, 'base64 is as CPython\'s') or diag($out);

    ($rc, $out) = reference('vectors',
        "$root/t/vectors/cursor_envelope.json");
    is($rc, 0, 'what a service answered is what they say') or diag($out);
    like($out, qr/^65 vectors, 0 differ$/m, 'all of it');
};

subtest 'a driver that errs is found out' => sub {
    my $t = Gate->new;

    for my $answer ("200 valid\t", "400 malformed\t", "400 expired\t") {
        my $wrong = $t->write_file('wrong', "#!/usr/bin/perl\n"
            . "while (<STDIN>) { print \"$answer\\n\" }\n");
        chmod 0700, $wrong or die "chmod: $!\n";

        my ($rc, $out) = reference('diff', '--driver', $wrong, '--count', 300,
            '--show', 1);
        is($rc, 1, 'it says always ' . substr $answer, 0, -1);
        like($out, qr/^300 cursors in both modes, [1-9]\d\d differ/m,
            'and differs');
    }
};

for my $format (qw(envelope detached jws)) {
    my $n = $format eq 'envelope' ? $count : int($count / 4);

    subtest "$format, $n cursors" => sub {
        my ($rc, $out) = reference('diff', '--driver', $driver, '--count', $n,
            '--seed', $seed, '--format', $format);

        is($rc, 0, 'none is judged otherwise') or diag($out);
        note($out);
        like($out, qr/^taken by a service, malformed here: .* foreign bytes/m,
            'the list of what is refused beyond the service\'s reasons '
            . 'holds') if $format eq 'envelope';

        my ($issued, $refused) =
            $out =~ /^$n .* (\d+) of them issued and fresh, (\d+) refused/m;
        is($refused, 0, 'of those that were issued none is refused');
        cmp_ok($issued // 0, '>', $n / 5, 'and many were');

        for my $mode (qw(compat strict)) {
            my ($line) = $out =~ /^$mode: (.*)/m;
            my %n = reverse +($line // '') =~ /(\d+) (\w+)/g;
            my @rare = grep { ($n{$_} || 0) < $n / 1000 }
                qw(valid expired bad_signature malformed),
                $mode eq 'strict' ? 'future' : ();
            is("@rare", '', "$mode: enough of each kind");
        }
    };
}

done_testing;
