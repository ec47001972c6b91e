package Gate::Nginx;

# The nginx process of a Gate object: start, reload, upgrade, stop, and what
# must be true afterwards.  A base class of Gate; its state is in the object.

use strict;
use warnings;

use POSIX ();
use Time::HiRes qw(time);

use Gate::Proc qw(adopt alive exit_status kill_hard running spawn
    spawn_orphan wait_exit);
use Gate::Util qw(scale slurp wait_for);

sub _command {
    my ($self, $conf, $log) = @_;
    return [$self->{nginx}, '-p', "$self->{dir}/", '-c', $conf, '-e', $log];
}

# Sanitizer reports go to files of their own, also those of the workers.

sub _env {
    my ($self) = @_;

    my $path = "log_path=$self->{dir}/san/report";
    my $asan = $ENV{ASAN_OPTIONS} || 'detect_odr_violation=0:detect_leaks=0';
    my $ubsan = $ENV{UBSAN_OPTIONS} || 'print_stacktrace=1';
    return { ASAN_OPTIONS => "$asan:$path", UBSAN_OPTIONS => "$ubsan:$path" };
}

# Runs nginx -t and returns (exit code, output).  With a template, tests that
# one and leaves the configuration of a running nginx alone.

sub test_conf {
    my ($self, $template) = @_;

    my $file = 'nginx.conf';
    if (defined $template) {
        $file = 'test.conf';
        $self->write_file($file, $self->expand($template));
    }

    my $out = "$self->{dir}/test.out";
    unlink $out;
    my $pid = spawn('nginx -t', [@{ $self->_command($file, 'test.log') }, '-t'],
        dir => $self->{dir}, out => '/dev/null', err => $out,
        env => $self->_env);

    my $status = wait_exit($pid, 20);
    kill_hard($pid) unless defined $status;

    my $text = slurp($out);
    $self->{san_text} .= $text;
    return ($self->_exit_code($status), $text);
}

sub _exit_code {
    my ($self, $status) = @_;
    return !defined $status ? 'still running'
        : $status & 127 ? 'signal ' . ($status & 127) : $status >> 8;
}

sub start {
    my ($self) = @_;

    die "nginx runs already\n" if $self->{pid};
    die "no configuration\n" unless defined $self->{conf};

    unlink "$self->{dir}/nginx.pid";
    my $from = $self->log_size;

    $self->{started} = 1;
    ($self->{pid}, my $let_go) = spawn_orphan('nginx',
        $self->_command('nginx.conf', 'error.log'),
        dir => $self->{dir}, out => "$self->{dir}/stdout",
        err => "$self->{dir}/stderr", env => $self->_env);

    my $ok = eval {
        wait_for { !running($self->{pid}) || $self->_is_up }
            timeout => 10, what => 'nginx to start';
    };
    my $why = $@;

    $let_go->();
    return $self if $ok && alive($self->{pid});

    my $status = exit_status($self->{pid});
    kill_hard(delete $self->{pid});
    my @lines = grep { /\[(?:emerg|alert|crit)\]|rror/ }
        split /^/, $self->log_from($from) . slurp("$self->{dir}/stderr");

    $self->{expect_exit} = 'any';
    die 'nginx did not start (exit: ' . $self->_exit_code($status)
        . ")\n$why" . join('', @lines[0 .. ($#lines < 9 ? $#lines : 9)]);
}

sub _is_up {
    my ($self) = @_;

    return 0 unless $self->_pid_file eq $self->{pid};
    $self->_accepts($_) || return 0 for $self->_listen_ports;
    return $self->_workers_expected <= $self->workers;
}

sub _pid_file {
    my ($self, $suffix) = @_;

    open my $fh, '<', "$self->{dir}/nginx.pid" . ($suffix || '') or return '';
    my $pid = <$fh>;
    return '' unless defined $pid && $pid =~ /^(\d+)\n/;
    return $1;
}

sub _listen_ports {
    my ($self) = @_;

    my %port;
    for my $args ($self->{conf} =~ /^[^#\n]*?\blisten\s+([^;]+);/mg) {
        next if $args =~ /\budp\b|^unix:|^\[/;
        $port{$1} = 1 if $args =~ /^(?:127\.0\.0\.1:|\*:|0\.0\.0\.0:)?(\d+)\b/;
    }

    return sort keys %port;
}

sub _accepts {
    my ($self, $port) = @_;
    return defined IO::Socket::INET->new(PeerAddr => '127.0.0.1',
        PeerPort => $port, Timeout => 1);
}

sub _workers_expected {
    my ($self) = @_;

    return 0 if $self->{conf} =~ /^\s*master_process\s+off/m;
    my ($n) = $self->{conf} =~ /^\s*worker_processes\s+(\w+)/m;
    return !defined $n ? 1
        : $n eq 'auto' ? POSIX::sysconf(POSIX::_SC_NPROCESSORS_ONLN()) : $n;
}

sub pid { return $_[0]{pid} }

# Pids of the workers, ascending; all => 1 includes those that shut down.

sub workers {
    my ($self, %opt) = @_;

    my $master = $opt{master} || $self->{pid} or return ();
    my @pids;

    for my $file (glob '/proc/[0-9]*/stat') {
        open my $fh, '<', $file or next;
        my ($pid, $state, $ppid) =
            (<$fh> || '') =~ /^(\d+) \(.*\) (\w) (\d+)/s or next;
        next if $ppid != $master || $state eq 'Z';

        # a fork that has not renamed itself yet is no worker yet
        open my $cmd, '<', "/proc/$pid/cmdline" or next;
        my $title = <$cmd>;
        next unless defined $title && $title =~ /^nginx: worker process/;
        next if $title =~ /shutting down/ && !$opt{all};
        push @pids, $pid;
    }

    # an array: in scalar context, their number
    @pids = sort { $a <=> $b } @pids;
    return @pids;
}

# Sends HUP and waits until all old workers are gone and new ones are there.
# Returns the seconds it took.  Options: wait => 0 only sends; timeout;
# may_fail => 1 returns undef when nginx rejects the configuration (which
# dies otherwise).

sub reload {
    my ($self, %opt) = @_;

    my @old = $self->workers(all => 1);
    my $from = $self->log_size;
    my $start = time;

    kill 'HUP', $self->{pid} or die "cannot reload: $!\n";
    return 0 if exists $opt{wait} && !$opt{wait};

    my $failed;
    wait_for {
        return 1 if $failed = $self->log_from($from) =~ /\[emerg\].*/ ? $& : '';
        return 0 if grep { running($_) } @old;
        return $self->_workers_expected <= $self->workers;
    } timeout => $opt{timeout}, what => 'the reload';

    return time - $start unless $failed;
    return undef if $opt{may_fail};
    die "reload failed: $failed\n";
}

# Kills a worker (signal KILL unless told, the first one unless pid is given)
# and waits for its replacement.  Returns the pid of the victim.  The alert
# that nginx logs for it is expected then.

sub kill_worker {
    my ($self, $signal, %opt) = @_;

    $signal ||= 'KILL';
    my $pid = $opt{pid} || ($self->workers)[0] or die "no worker\n";

    my $born = _born($pid);

    $self->{killed}{$pid} = $signal;
    kill $signal, $pid or die "cannot kill $pid: $!\n";
    return $pid if exists $opt{wait} && !$opt{wait};

    # the one in its place may even get its pid
    wait_for { (!running($pid) || _born($pid) ne $born)
            && $self->_workers_expected <= $self->workers }
        timeout => $opt{timeout}, what => "a worker in place of $pid";
    return $pid;
}

# When a process started, in ticks since boot.

sub _born {
    my ($pid) = @_;

    open my $fh, '<', "/proc/$pid/stat" or return '';
    my ($rest) = (<$fh> || '') =~ /^\d+ \(.*\) (.*)/s or return '';
    return (split ' ', $rest)[19];
}

# Starts a new binary in place and stops the old one; quit_old => 0 leaves
# both running (call finish_upgrade later).  Returns the new master's pid.

sub upgrade {
    my ($self, %opt) = @_;

    my $old = $self->{pid};
    kill 'USR2', $old or die "cannot upgrade: $!\n";

    wait_for {
        my $new = $self->_pid_file;
        $new && $new ne $old && $self->_pid_file('.oldbin') eq $old
            && $self->_workers_expected <= $self->workers(master => $new);
    } timeout => $opt{timeout}, what => 'the new binary';

    $self->{pid} = $self->_pid_file;
    $self->{old_pid} = $old;
    adopt($self->{pid}, 'nginx');

    $self->finish_upgrade(%opt) unless exists $opt{quit_old} && !$opt{quit_old};
    return $self->{pid};
}

sub finish_upgrade {
    my ($self, %opt) = @_;

    my $old = delete $self->{old_pid} or die "no upgrade\n";
    kill 'QUIT', $old;
    my $status = wait_exit($old, $opt{timeout} || 10);
    kill_hard($old) unless defined $status;
    $self->_note_exit($status);
}

# Stops nginx (QUIT unless told) and waits; returns its exit code.

sub stop {
    my ($self, $signal, %opt) = @_;

    my $pid = $self->{pid} or return undef;
    $signal ||= 'QUIT';

    $self->finish_upgrade if $self->{old_pid};
    kill $signal, $pid;

    my $status = wait_exit($pid, $opt{timeout} || 10);
    delete $self->{pid};
    kill_hard($pid) unless defined $status;

    $status = 0 if $signal eq 'KILL' && defined $status && $status == 9;
    return $self->_note_exit($status);
}

sub _note_exit {
    my ($self, $status) = @_;
    my $code = $self->_exit_code($status);
    push @{ $self->{exits} }, $code;
    return $code;
}

# Processes of this nginx, old and new: their working directory is ours.

sub _leftover {
    my ($self) = @_;

    my @found;
    for my $link (glob '/proc/[0-9]*/cwd') {
        my $cwd = readlink $link;
        next unless defined $cwd && $cwd =~ /^\Q$self->{dir}\E(?: |$)/;
        push @found, $link =~ m{(\d+)};
    }

    return @found;
}

# The checks that follow every test: a list of [name, problem lines].

sub _verdict {
    my ($self) = @_;

    $self->stop if $self->{pid};

    my @left;
    eval { wait_for { !(@left = $self->_leftover) } timeout => 2 };
    kill 'KILL', @left if @left;

    my $any = ($self->{expect_exit} || '') eq 'any';
    my @exits = $any ? () : grep { $_ ne '0' } @{ $self->{exits} };

    my $log = $self->log_from(0);
    my @lines = split /^/, $log;
    my @bad = grep { /\[(?:alert|crit|emerg)\]/ && !$self->_allowed($_) }
        @lines;

    my $reports = join '', $self->{san_text},
        map { slurp($_) } grep { -f } "$self->{dir}/stderr",
        glob "$self->{dir}/san/*";
    my @reports = grep { /Sanitizer|runtime error/ } @lines,
        split /^/, $reports;

    return (
        ['nginx exited with 0', map { "exit: $_\n" } @exits],
        ['no alert, crit or emerg in the error log', @bad],
        ['no sanitizer report', @reports],
        ['no socket left open', grep { /open socket #/ } @lines],
        ['no process left behind', map { "pid $_\n" } @left],
    );
}

sub _allowed {
    my ($self, $line) = @_;

    for (@{ $self->{allow} }) { return 1 if $line =~ $_ }

    # what nginx says about the workers that we killed ourselves
    if ($line =~ /worker process (\d+) exited on signal (\d+)/) {
        my $sig = $self->{killed}{$1} or return 0;
        return $2 == ($sig =~ /^\d+$/ ? $sig : _signal_number($sig));
    }

    return 1 if $line =~ /shared memory zone .* was locked by (\d+)/
                && $self->{killed}{$1};
    return 0;
}

sub _signal_number {
    my ($name) = @_;
    my $code = POSIX->can("SIG$name") or die "unknown signal $name\n";
    return $code->();
}

1;
