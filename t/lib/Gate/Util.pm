package Gate::Util;

# Small helpers with no state of their own.

use strict;
use warnings;

use Cwd ();
use Exporter 'import';
use File::Basename ();
use JSON::PP ();
use Time::HiRes ();

our @EXPORT_OK = qw(json root scale slurp spew skip_unless_cmd wait_for
    which);

my $ROOT = Cwd::abs_path(File::Basename::dirname(__FILE__) . '/../../..');

# The top of the checkout.

sub root { return $ROOT }

# Sanitized builds are slow: every time limit is multiplied by this.

sub scale { return $ENV{SANITIZE} ? 5 : 1 }

sub json {
    my ($text) = @_;
    return JSON::PP->new->utf8->decode($text);
}

sub slurp {
    my ($path) = @_;
    open my $fh, '<:raw', $path or die "cannot read $path: $!\n";
    local $/;
    my $text = <$fh>;
    return defined $text ? $text : '';
}

sub spew {
    my ($path, $text) = @_;
    open my $fh, '>:raw', $path or die "cannot write $path: $!\n";
    print $fh $text;
    close $fh or die "cannot write $path: $!\n";
    return $path;
}

# The full path of a command, or undef.

sub which {
    my ($cmd) = @_;

    return -x $cmd && -f _ ? Cwd::abs_path($cmd) : undef if $cmd =~ m{/};

    for my $dir (split(/:/, $ENV{PATH} || ''), '/usr/local/sbin',
        '/usr/sbin', '/sbin')
    {
        return "$dir/$cmd" if $dir =~ m{^/} && -x "$dir/$cmd" && -f _;
    }

    return undef;
}

# Skips the whole file (or, given a count, that many tests of a SKIP block).

sub skip_unless_cmd {
    my ($cmd, $count) = @_;

    my $path = which($cmd);
    return $path if defined $path;

    require Test::More;
    Test::More::skip("no $cmd", $count) if $count;
    Test::More::plan(skip_all => "no $cmd");
}

# Polls until the condition holds and returns its value; dies otherwise.

sub wait_for(&;@) {
    my ($cond, %opt) = @_;

    my $timeout = ($opt{timeout} || 10) * scale();
    my $end = Time::HiRes::time() + $timeout;
    my $pause = 0.002;

    while (1) {
        my $value = $cond->();
        return $value if $value;

        last if Time::HiRes::time() > $end;

        select undef, undef, undef, $pause;
        $pause *= 1.5 if $pause < 0.05;
    }

    my $what = $opt{what} || 'a condition';
    my (undef, $file, $line) = caller;
    die "timed out after ${timeout}s waiting for $what at $file line $line\n";
}

1;
