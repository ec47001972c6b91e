package Gate::Bench;

# What the programs of t/bench have in common: one processor for everything,
# instructions by callgrind, requests by wrk, and medians.

use strict;
use warnings;

use Exporter 'import';
use IO::Socket::INET;
use POSIX ();

use Gate::Proc qw(kill_hard running spawn wait_exit);
use Gate::Util qw(slurp which);

our @EXPORT_OK = qw(calm count cpu_time drive interval median processor
    quit wrk);

use constant { CONNECTIONS => 16, PADS => 61 };

# A malloc() that gives memory back to the system at the end of a request, to
# ask for it again at the next, costs 3 us a request.  Which process does so is
# luck, so none does.

sub calm {
    $ENV{MALLOC_TRIM_THRESHOLD_} = 256 * 1024 * 1024;
    $ENV{MALLOC_TOP_PAD_} = 16 * 1024 * 1024;
}

# What to put before a command to have it on the last processor.

sub processor {
    my ($list) = slurp('/proc/self/status') =~ /^Cpus_allowed_list:\s*(\S+)/m;
    my ($last) = ($list // '') =~ /(\d+)$/ or return ();

    return which('taskset') ? (which('taskset'), '-c', $last) : ();
}

# The instructions in a file of callgrind's, and those of them inside malloc()
# and its kin, with the number of calls, and in OpenSSL.

sub count {
    my ($file) = @_;

    my $heap = qr/^(?:malloc|calloc|realloc|free|memalign|posix_memalign
                     |aligned_alloc)$/x;

    my (%name, %object, $crypto, $to, $other, $calls);
    my %count = (total => 0, heap => 0, calls => 0, crypto => 0);

    open my $fh, '<', $file or die "$file: $!\n";

    while (my $line = <$fh>) {

        if ($line =~ /^(c?)fn=\((\d+)\)(?: (.*))?$/) {
            my ($called, $id, $name) = ($1, $2, $3);
            $name{$id} = $name if defined $name;
            $to = $called && $name{$id} =~ $heap;

        } elsif ($line =~ /^(c?)ob=\((\d+)\)(?: (.*))?$/) {
            my ($called, $id, $name) = ($1, $2, $3);
            $object{$id} = $name if defined $name;
            $other = 1 if $called;
            $crypto = $object{$id} =~ /libcrypto/ unless $called;

        } elsif ($line =~ /^calls=(\d+)/) {
            $calls = $1;

        } elsif ($line =~ /^[-+*\d]\S* (\d+)$/) {

            # what a call cost is on the line after it; malloc() called by
            # its own library is a part of the first call

            if (defined $calls) {
                if ($to && $other) {
                    $count{heap} += $1;
                    $count{calls} += $calls;
                }

                $other = 0;
                undef $calls;

            } elsif ($crypto) {
                $count{crypto} += $1;
            }

        } elsif ($line =~ /^totals: (\d+)/) {
            $count{total} = $1;
        }
    }

    $count{total} or die "callgrind counted nothing\n";
    return \%count;
}

# A single process that has no timer and misses the signal by a hair sleeps
# until somebody knocks.

sub quit {
    my ($t) = @_;

    my $pid = $t->pid;
    kill 'QUIT', $pid;

    for (1 .. 200) {
        last unless running($pid);
        IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $t->port);
        select undef, undef, undef, 0.05;
    }

    $t->stop;
}

# That many requests, one after the other, each with a key of its own or one
# of so many (keys), for one URI after the other (uris).  cookie: the first that
# was set is sent from then on.
#
# Two things that would let luck decide are spread out.  What a request needs
# of nginx's memory differs (see "pads"): where in a block of 4 KiB it ends
# decides whether the next allocation costs 30 instructions or 500.  And the
# requests come on several connections: the first timer of a process costs
# more than one among others.

sub drive {
    my ($port, $requests, %opt) = @_;

    my @client = map {
        IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port)
            or die "cannot connect: $!\n"
    } 1 .. CONNECTIONS;

    my $cookie = '';

    for my $n (1 .. $requests) {
        my $s = $client[$n % @client];
        my $key = sprintf 'key-%08d', $opt{keys} ? $n % $opt{keys} : $n;
        my $pad = sprintf '%02d', $n % PADS;
        my $uri = $opt{uris} ? $opt{uris}[$n % @{ $opt{uris} }] : '/';

        print $s "GET $uri HTTP/1.1\r\nHost: localhost\r\n"
            . "X-Api-Key: $key\r\nX-Pad: $pad\r\n$cookie\r\n"
            or die "request $n: $!\n";

        my $answer = '';
        until ($answer =~ /\r\n\r\nhello\n\z/) {
            sysread $s, $answer, 65536, length $answer
                or die "request $n: $answer\n";
        }

        die $answer unless $answer =~ m{^HTTP/1\.1 200 };
        next unless $opt{cookie} && !$cookie;

        $cookie = "Cookie: $1\r\n" if $answer =~ /^Set-Cookie: ([^;]+)/mi;
    }
}

# A header of 0 to 4 KiB, all in steps of 64 bytes, in the request upstream.

sub pads {
    my $map = join ' ', map {
        sprintf '%02d "%s";', $_, 'x' x ($_ * 64)
    } 0 .. PADS - 1;

    return "map \$http_x_pad \$pad { $map }\n"
        . '    proxy_set_header X-Pad $pad;';
}

# Every request with another of so many keys, a thousand by default.

sub script {
    my ($keys) = (@_, 1000);

    return <<"EOF_LUA";
local requests = {}
local n = 0

function init(args)
    for i = 1, $keys do
        requests[i] = wrk.format("GET", "/", {
            ["X-Api-Key"] = string.format("key-%08d", i) })
    end
end

function request()
    n = n % $keys + 1
    return requests[n]
end

function done(summary, latency, all)
    local e = summary.errors
    io.write(string.format("result %d %d %d\\n", summary.requests,
        summary.duration,
        e.connect + e.read + e.write + e.status + e.timeout))
end
EOF_LUA
}

# One of these URIs after the other; refused: with no answer but 400.

sub visits {
    my ($uris, %opt) = @_;

    my $list = join ', ', map { qq("$_") } @$uris;
    my $want = $opt{refused} ? 400 : 200;

    return <<"EOF_LUA";
local uris = { $list }
local requests = {}
local n = 0
wrong = 0

function init(args)
    for i = 1, #uris do
        requests[i] = wrk.format("GET", uris[i])
    end
end

function request()
    n = n % #requests + 1
    return requests[n]
end

function response(status, headers, body)
    if status ~= $want then
        wrong = wrong + 1
    end
end

function setup(thread)
    it = thread
end

function done(summary, latency, all)
    local e = summary.errors
    io.write(string.format("result %d %d %d\\n", summary.requests,
        summary.duration,
        e.connect + e.read + e.write + e.timeout + it:get("wrong")))
end
EOF_LUA
}

# Runs wrk against it with a script.  Requests per second, and microseconds of
# the worker's processor time for each.

sub wrk {
    my ($t, $script, $seconds, $again) = (@_, 0);

    my ($worker) = $t->workers;
    my $out = $t->dir . '/wrk.out';
    my $before = cpu_time($worker);

    my $pid = spawn('wrk', [processor(), which('wrk'), '-t1', '-c32',
        "-d${seconds}s", '-s', $script, 'http://127.0.0.1:' . $t->port . '/'],
        out => $out, err => $out);

    my $status = wait_exit($pid, $seconds + 30);
    kill_hard($pid) unless defined $status;

    my $cpu = cpu_time($worker) - $before;
    my $text = slurp($out);
    my ($n, $us, $errors) = $text =~ /^result (\d+) (\d+) (\d+)$/m
        or die "wrk: $text\n";

    die "wrk had $errors errors: $text\n" if $errors;

    # a machine that has no time for us at all for a second proves nothing
    die "wrk got no answer\n" if !$n && $again > 5;
    return wrk($t, $script, $seconds, $again + 1) if !$n;

    return ($n / $us * 1e6, $cpu / $n * 1e6);
}

# Seconds on a processor.

sub cpu_time {
    my ($pid) = @_;

    my ($ns) = eval { slurp("/proc/$pid/schedstat") =~ /^(\d+)/ };
    return $ns / 1e9 if $ns;

    my @field = split ' ', slurp("/proc/$pid/stat") =~ s/^.*\) //sr;
    return ($field[11] + $field[12]) / POSIX::sysconf(POSIX::_SC_CLK_TCK());
}

sub median {
    my @v = sort { $a <=> $b } @_;
    return @v % 2 ? $v[@v / 2] : ($v[@v / 2 - 1] + $v[@v / 2]) / 2;
}

# The 95 % interval of the median, by bootstrap.  The same numbers give the
# same interval.

sub interval {
    my @v = @_;

    srand 1;
    my @m = sort { $a <=> $b } map {
        median(map { $v[int rand @v] } @v);
    } 1 .. 2000;

    return @m[50, 1949];
}

1;
