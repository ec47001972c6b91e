package Gate::Load;

# Runs the load generator, t/tools/load.c, which is compiled on first use.
#
#   my $load = $t->load(rate => 500, uri => '/', value => 'X-Arm');
#   ...
#   my $res = $load->stop;        # or result(), when a duration was given

use strict;
use warnings;

use Fcntl qw(:flock);
use File::Path ();

use Gate::Proc qw(alive kill_hard spawn wait_exit);
use Gate::Util qw(json root scale slurp);

# Returns the path of the binary, also of another tool ("clock.so": a shared
# object).  The lock and the rename keep parallel test files from running a
# half-written one.

sub build {
    my $name = @_ ? $_[0] : 'load';
    my ($base, $so) = $name =~ /^([\w-]+)(\.so)?$/;
    my $src = root() . "/t/tools/$base.c";
    my $dir = $ENV{GATE_BUILD} || root() . '/build';
    my $bin = "$dir/$name";

    File::Path::make_path($dir);
    open my $lock, '>', "$dir/.$name.lock" or die "$dir/.$name.lock: $!\n";
    flock $lock, LOCK_EX or die "flock: $!\n";

    return $bin if -x $bin && (stat _)[9] >= (stat $src)[9];

    my $cc = ($ENV{CC} || 'cc') . ' -std=c11 -O2 -Wall -Wextra'
        . ($so ? ' -shared -fPIC' : '');
    my $out = `$cc -o $bin.$$ $src -lm 2>&1`;
    die "cannot compile $name:\n$out\n" if $?;
    rename "$bin.$$", $bin or die "rename: $!\n";
    return $bin;
}

my $count = 0;

# Options: port, uri, dir (for its files), rate (per second), random (1: as of
# many callers, not evenly), duration (seconds; otherwise until stop), number
# (of requests, the most; within so many seconds: within), conns, timeout (ms),
# headers (hash or list of pairs), method, body, value (names of response
# headers to count), close (one connection per request), no_retry, log (1: keep
# log()).

sub start {
    my ($class, %opt) = @_;

    my @cmd = (build(), '-r', $opt{rate} || 1000, '-c', $opt{conns} || 50,
        '-t', ($opt{timeout} || 10_000) * scale());

    push @cmd, '-d', $opt{duration} if $opt{duration};
    push @cmd, '-m', $opt{method} if defined $opt{method};
    push @cmd, '-b', $opt{body} if defined $opt{body};
    push @cmd, '-n', $opt{number} if $opt{number};
    push @cmd, '-P' if $opt{random};
    push @cmd, '-K' if $opt{close};
    push @cmd, '-N' if $opt{no_retry};

    my $h = $opt{headers} || [];
    my @pairs = ref $h eq 'HASH' ? map { ($_ => $h->{$_}) } sort keys %$h : @$h;
    while (my ($name, $value) = splice @pairs, 0, 2) {
        push @cmd, '-H', "$name: $value";
    }

    my $value = $opt{value};
    push @cmd, map { ('-V', $_) }
        ref $value ? @$value : defined $value ? $value : ();

    my $self = bless { limit => ($opt{duration} || $opt{within} || 0)
        + ($opt{timeout} || 10_000) / 1000 + 10 }, $class;

    my $base = "$opt{dir}/load-$$-" . ++$count;
    $self->{out} = "$base.json";
    $self->{err} = "$base.err";

    if ($opt{log}) {
        $self->{log} = "$base.log";
        push @cmd, '-l', $self->{log};
    }

    my $uri = defined $opt{uri} ? $opt{uri} : '/';
    push @cmd, "127.0.0.1:$opt{port}$uri";

    $self->{pid} = spawn('load', \@cmd, out => $self->{out},
        err => $self->{err});
    return $self;
}

sub running { my ($self) = @_; return alive($self->{pid}) }

# Ends the load, waits for the requests under way, returns the result.

sub stop {
    my ($self) = @_;
    kill 'TERM', $self->{pid} if $self->running;
    return $self->result;
}

# Waits for the end and returns the numbers as a hash.

sub result {
    my ($self) = @_;

    return $self->{result} if $self->{result};

    my $status = wait_exit($self->{pid}, $self->{limit});
    kill_hard($self->{pid}) unless defined $status;
    die 'load: ' . (defined $status ? "status $status: " : 'hangs: ')
        . slurp($self->{err}) . "\n" if !defined $status || $status;

    return $self->{result} = json(slurp($self->{out}));
}

# One hash per request: start, end (us, CLOCK_MONOTONIC), status, err, value,
# conn, lport, n; undef where there was none.

sub log {
    my ($self) = @_;

    $self->result;
    my @names = qw(start end status err value conn lport n);
    my @log;

    for (split /\n/, slurp($self->{log})) {
        my %line;
        @line{@names} = map { $_ eq '-' ? undef : $_ } split / /;
        push @log, \%line;
    }

    return @log;
}

1;
