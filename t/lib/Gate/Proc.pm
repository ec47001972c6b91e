package Gate::Proc;

# Child processes: start, wait, and make sure that none stays behind.
#
# Three layers: the END block below stops what is still running when the
# test ends or dies; INT, TERM and HUP are turned into a normal exit, so END
# runs; and should the test process be killed outright, a guard process sees
# its pipe close and stops the children.  (PR_SET_PDEATHSIG is no substitute:
# it is bound to the parent at the time, and nginx changes its parent.)

use strict;
use warnings;

use Exporter 'import';
use IO::Handle;
use POSIX ();
use Time::HiRes qw(time);

use Gate::Util qw(scale);

our @EXPORT_OK = qw(adopt alive exit_status fork_child kill_hard running
    spawn spawn_orphan wait_exit);

my $OWNER = $$;
my %child;                       # pid => { name, owner, status }

my ($guard, $guard_pipe);

# As a subreaper we inherit, and can wait for, an nginx whose parent has gone.
# prctl(2) has no core Perl interface; its number depends on the machine.

sub _become_subreaper {
    my $machine = (POSIX::uname())[4];
    my $prctl = {
        x86_64 => 157, aarch64 => 167, riscv64 => 167, i686 => 172,
        armv7l => 172, ppc64le => 171, s390x => 172,
    }->{$machine};

    my $PR_SET_CHILD_SUBREAPER = 36;
    eval { syscall $prctl, $PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0 }
        if defined $prctl && $^O eq 'linux';
}

_become_subreaper();

$SIG{PIPE} = 'IGNORE';

for my $sig (qw(INT TERM HUP)) {
    $SIG{$sig} = sub { exit 1 };
}

# A child that held the client sockets of the test would keep them open when
# the test closes them.  Perl counts the users of each descriptor number, so
# a plain close here would spoil those numbers; /dev/null takes their place.

sub _close_others {
    my (@keep) = @_;

    my %keep = map { $_ => 1 } 0 .. 2, map { fileno $_ } @keep;
    my @fds = map { m{(\d+)$} } glob '/proc/self/fd/*';
    open my $null, '+<', '/dev/null' or die "/dev/null: $!\n";
    POSIX::dup2(fileno $null, $_) for grep { !$keep{$_} } @fds;
}

sub _raw_fork {
    my ($name, $code) = @_;

    $| = 1;
    STDERR->flush;

    my $pid = fork;
    die "cannot fork: $!\n" unless defined $pid;

    if ($pid == 0) {
        # no END blocks and no destructors in here, whatever happens
        my $ok = eval {
            $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP PIPE CHLD);
            $code->();
            1;
        };
        print STDERR "$name: $@" unless $ok;
        POSIX::_exit($ok ? 0 : 1);
    }

    return $pid;
}

# The guard reads "+pid" and "-pid" lines; at the end of the pipe the test
# process is dead, and the rest has to go.

sub _guard {
    my ($line) = @_;

    if (!$guard || $guard != $$) {
        $guard = $$;
        pipe my $in, $guard_pipe or die "pipe: $!\n";
        $guard_pipe->autoflush(1);

        _raw_fork('guard', sub {
            $SIG{$_} = 'IGNORE' for qw(INT TERM HUP);
            _close_others($in);
            open STDOUT, '>', '/dev/null';
            open STDERR, '>', '/dev/null';
            my %pids;
            while (defined(my $msg = <$in>)) {
                my ($op, $pid) = $msg =~ /^([+-])(\d+)/ or next;
                if ($op eq '+') { $pids{$pid} = 1 } else { delete $pids{$pid} }
            }
            kill 'TERM', keys %pids;
        });
    }

    print $guard_pipe "$line\n";
}

sub _fork {
    my ($name, $code) = @_;

    my $pid = _raw_fork($name, $code);
    adopt($pid, $name);
    return $pid;
}

# Runs the code in a child process that inherits only the given handles.

sub fork_child {
    my ($name, $code, @keep) = @_;
    return _fork($name, sub { _close_others(@keep); $code->() });
}

# Runs a command; options: dir, out and err (files), env (hash).

sub spawn {
    my ($name, $cmd, %opt) = @_;
    return _fork($name, sub { _exec($cmd, %opt) });
}

sub _exec {
    my ($cmd, %opt) = @_;

    chdir $opt{dir} or die "chdir: $!\n" if $opt{dir};
    open STDIN, '<', '/dev/null' or die "open: $!\n";
    open STDOUT, '>', $opt{out} or die "open: $!\n" if $opt{out};
    open STDERR, '>>', $opt{err} or die "open: $!\n" if $opt{err};
    $ENV{$_} = $opt{env}{$_} for keys %{ $opt{env} || {} };
    exec { $cmd->[0] } @$cmd or die "cannot run $cmd->[0]: $!\n";
}

# Runs a command as a grandchild; returns its pid and a code reference to
# call later: that makes it an orphan, and so, as we are the reaper, a child
# of ours.  In the foreground nginx refuses an upgrade as long as the process
# that started it is its parent.

sub spawn_orphan {
    my ($name, $cmd, %opt) = @_;

    pipe my $pid_in, my $pid_out or die "pipe: $!\n";
    pipe my $hold_in, my $hold_out or die "pipe: $!\n";

    my $between = _raw_fork($name, sub {
        my $pid = _raw_fork($name, sub { _exec($cmd, %opt) });
        _close_others($pid_out, $hold_in);
        syswrite $pid_out, "$pid\n";
        sysread $hold_in, my $byte, 1;
    });

    close $pid_out;
    close $hold_in;
    my $pid = <$pid_in>;
    die "cannot start $name\n" unless defined $pid;
    chomp $pid;
    adopt($pid, $name);

    return ($pid, sub {
        close $hold_out or return;
        local ($?, $!);
        waitpid $between, 0;
    });
}

# Takes over a process that we did not start, such as an upgraded nginx.

sub adopt {
    my ($pid, $name) = @_;
    $child{$pid} = { name => $name, owner => $$ };
    _guard("+$pid");
}

# The wait status of a finished child; undef while it runs.

sub exit_status {
    my ($pid) = @_;

    my $c = $child{$pid} or return -1;
    return $c->{status} if defined $c->{status};

    local ($?, $!);
    my $rc = waitpid $pid, POSIX::WNOHANG();

    if ($rc == $pid) {
        $c->{status} = $?;
    } elsif ($rc == -1 && !kill(0, $pid)) {
        $c->{status} = 0;        # not ours to wait for, and gone
    }

    _guard("-$pid") if defined $c->{status};

    return $c->{status};
}

sub alive {
    my ($pid) = @_;
    return !defined exit_status($pid);
}

# The same for a process that is not our child: it exists and is no zombie.

sub running {
    my ($pid) = @_;
    open my $fh, '<', "/proc/$pid/stat" or return 0;
    return (<$fh> || '') =~ /^\d+ \(.*\) [^ZX]/s;
}

# Waits for the end of a child; returns its status or undef on timeout.

sub wait_exit {
    my ($pid, $timeout) = @_;

    my $end = time() + $timeout * scale();
    my $pause = 0.001;

    while (1) {
        my $status = exit_status($pid);
        return $status if defined $status || time() > $end;
        select undef, undef, undef, $pause;
        $pause *= 1.5 if $pause < 0.02;
    }
}

# TERM, and KILL for those that do not care.

sub kill_hard {
    my (@pids) = @_;

    kill 'TERM', $_ for grep { alive($_) } @pids;

    for my $pid (@pids) {
        next if defined wait_exit($pid, 2);
        kill 'KILL', $pid;
        wait_exit($pid, 2);
    }
}

END {
    if ($$ == $OWNER) {
        local ($?, $!);
        kill_hard(grep { $child{$_}{owner} == $$ && alive($_) } keys %child);
    }
}

1;
