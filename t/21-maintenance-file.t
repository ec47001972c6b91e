#!/usr/bin/perl

# Maintenance files: what closes, what opens, how soon, and what is done with
# files that nobody can understand.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use POSIX ();
use Test::More;
use Time::HiRes qw(time sleep);

my @nobody = getpwnam 'nobody';
my $t = Gate->new(user => 'nobody ' . getgrgid $nobody[3]);
my $token = 'maintenance-file-token';
my $dir = $t->dir . '/www';
my $file = "$dir/status";

mkdir $dir;
chmod 0755, $dir;
chmod 0600, $t->write_file('token', $token);

my $block = <<'EOF';
    gate_maintenance_file %%DIR%%/www/status %%DIR%%/www/second;
    gate_maintenance_file %%DIR%%/www/shop switch=shop;

    server {
        listen 127.0.0.1:%%PORT:http%%;
        add_header X-Worker $pid always;
        gate_maintenance on;

        location / { return 200 "open\n"; }
        location /shop/ { gate_maintenance shop; return 200 "open\n"; }
        location /gate { gate_status; }
        location /gate/api/ { gate_api token_file=%%DIR%%/token; }
    }
EOF

sub put {
    my ($path, $text, $mode) = @_;
    my $new = "$path.new";
    Gate::spew($new, $text);
    chmod defined $mode ? $mode : 0644, $new;
    rename $new, $path or die "rename: $!";
}

sub status_of { return $t->get($_[0] || '/')->status }

sub becomes {
    my ($status, $name, $uri) = @_;
    my $start = time;
    my $ok = eval { wait_for { status_of($uri) == $status } };
    ok($ok, $name);
    return time - $start;
}

sub global { return $t->get('/gate')->json->{maintenance}{global} }

sub control {
    my ($body) = @_;
    my $r = $t->post('/gate/api/maintenance', headers => {
        Authorization => "Bearer $token",
        'Content-Type' => 'application/json' }, body => $body);
    die $r->as_text unless $r->status == 200;
}

# A good word that was seen for sure, whatever was there before.

sub goes_good {
    my ($word) = @_;
    for (reverse $word, $word eq 'on' ? 'off' : 'on') {
        my $status = $_ eq 'on' ? 503 : 200;
        put($file, $_);
        wait_for { status_of() == $status } what => "the word $_";
    }
}

# Puts something there that is not understood and waits until that was said.

sub goes_bad {
    my ($make) = @_;
    my $from = $t->log_size;
    $make->();
    $t->wait_log(qr/maintenance file "\Q$file\E".* last good value stays/,
        from => $from);
}

put($file, "maintenance\n");
$t->http(workers => 4, $block);
$t->start;

is(status_of(), 503, 'a file that is there before the start closes from the '
    . 'first request on');

unlink $file;
becomes(200, 'without the file it is open');

subtest 'what a file says' => sub {
    my @closed = ('', " \n\t", "maintenance\n", 'ON',
        "\xef\xbb\xbfon\n", 'back at six', '[1]',
        '{}', '{"message": "x", "other": 1}');
    my @open = ("off\n", '0', 'False', 'ok', 'ENABLED', 'no',
        '{"on": false}', '{"until": 1000}');

    while (@closed || @open) {
        my ($closed, $open) = (shift @closed, shift @open);

        for ([$closed, 503], [$open, 200]) {
            my ($text, $status) = @$_;
            next unless defined $text;
            put($file, $text);
            (my $name = $text) =~ s/([^ -~])/sprintf '\x%02x', ord $1/ge;
            becomes($status, "'$name'");
        }
    }

    unlink $file;
    becomes(200, 'gone');
};

subtest 'an object says more' => sub {
    put($file, '{"on": true, "message": "Back at six", "retry_after": 7}');
    becomes(503, 'closed');

    my $r = $t->get('/');
    is($r->json->{detail}, 'Back at six', 'message');
    is($r->header('retry-after'), 7, 'retry_after');

    my $g = global();
    is($g->{source}, 'file', 'the status says that it is the file');
    like($g->{since}, qr/^20\d\d-\d\d-\d\dT/, 'and since when');

    put($file, '{"on": true, "read_only": true}');
    becomes(200, 'read_only: GET');
    is($t->post('/')->status, 503, 'read_only: POST');

    # a ttl runs from when the file was written

    Gate::spew("$file.new", '{"ttl": 60}');
    utime time - 120, time - 120, "$file.new";
    rename "$file.new", $file;
    wait_for { $t->post('/')->status == 200 } what => 'a ttl that is over';
    utime time, time, $file;
    becomes(503, 'ttl, written just now');
    my $s = $t->get('/')->header('retry-after');
    ok($s > 30 && $s <= 60, "ttl: Retry-After ($s)");

    unlink $file;
    becomes(200, 'gone');
};

subtest 'every worker notices within a second' => sub {
    my %conn;
    my $tries = 0;

    while (keys %conn < 4 && $tries++ < 2000) {
        my $c = $t->conn;
        my $pid = $c->request(GET => '/')->header('x-worker');
        if ($conn{$pid}) { $c->close } else { $conn{$pid} = $c }
    }

    cmp_ok(scalar keys %conn, '>', 1, 'connections to several workers');
    note(scalar(keys %conn) . ' workers');

    my $worst = 0;

    for my $status (503, 200, 503, 200) {
        my %wait = %conn;
        my $start = time;
        $status == 503 ? put($file, '') : unlink $file;

        while (%wait && time - $start < 10 * Gate::scale()) {
            for my $pid (keys %wait) {
                delete $wait{$pid}
                    if $wait{$pid}->request(GET => '/')->status == $status;
            }
            sleep 0.005;
        }

        is_deeply([ keys %wait ], [], "$status everywhere");
        $worst = time - $start if time - $start > $worst;
    }

    note(sprintf 'noticed by all after %.3f s at worst', $worst);
    cmp_ok($worst, '<', 10 * Gate::scale(), 'soon');
    $_->close for values %conn;
};

subtest 'garbage keeps the last good value' => sub {
    my %bad = (
        'no object' => sub { put($file, '{"on": fals') },
        'a wrong value' => sub { put($file, '{"on": "maybe"}') },
        'more than 64 KiB' => sub { put($file, 'off' . ' ' x 65536) },
        'a loop of links' => sub {
            symlink $file, "$file.new"; rename "$file.new", $file },
    );

    for my $word ('on', 'off') {
        my $status = $word eq 'on' ? 503 : 200;

        for my $name (sort keys %bad) {
            goes_good($word);
            goes_bad($bad{$name});
            is(status_of(), $status, "$name: still $word");
        }
    }

    unlink $file;
    becomes(200, 'gone');
};

subtest 'also across a reload and the death of the agent' => sub {
    for my $word ('on', 'off') {
        my $status = $word eq 'on' ? 503 : 200;

        goes_good($word);
        goes_bad(sub { put($file, '{') });

        goes_bad(sub { $t->reload });
        is(status_of(), $status, "reload: still $word");

        my $agent = $t->get('/gate')->json->{agent}{pid};
        goes_bad(sub { $t->kill_worker('KILL', pid => $agent) });
        is(status_of(), $status, "another agent: still $word");
    }

    # another file of the same switch is no reason to take its word

    goes_good('off');
    put("$dir/second", 'on');
    becomes(503, 'one says off, the other one on');
    goes_bad(sub { put($file, '{') });
    goes_bad(sub { $t->reload });
    unlink "$dir/second";
    becomes(200, 'what is bad said "off"');
    unlink $file;
};

subtest 'a file that the workers may not read' => sub {
    plan skip_all => 'not root' if $>;

    put($file, '', 0600);
    becomes(503, 'empty: it is there');
    unlink $file;
    becomes(200, 'gone');

    goes_bad(sub { put($file, 'ok', 0600) });
    becomes(503, 'it appears: it is there');
    put($file, 'ok');
    becomes(200, 'readable: what it says');
    goes_bad(sub { put($file, 'on', 0600) });
    is(status_of(), 200, 'unreadable again: what it said');
    unlink $file;
};

subtest 'things that are no files are there, and do not hang nginx' => sub {
    mkdir $file;
    becomes(503, 'a directory');
    rmdir $file;
    becomes(200, 'gone');

    POSIX::mkfifo($file, 0644);
    becomes(503, 'a FIFO');
    unlink $file;
    becomes(200, 'gone');

    symlink "$dir/nowhere", $file;
    put("$dir/second", 'on');
    becomes(503, 'another file');
    unlink "$dir/second";
    becomes(200, 'a link to nowhere is not there');
    unlink $file;
};

subtest 'a link is followed, and swapped' => sub {
    put("$dir/one", 'on');
    put("$dir/two", 'off');

    for ([one => 503], [two => 200], [one => 503]) {
        my ($name, $status) = @$_;
        symlink "$dir/$name", "$file.new";
        rename "$file.new", $file;
        becomes($status, "to $name");
    }

    unlink $file;
    becomes(200, 'gone');
};

subtest 'who writes it anew without rename closes nothing' => sub {
    my ($refused, $n) = (0, 0);

    for (1 .. 4) {
        put($file, "ok\n");
        put("$dir/second", 'on');
        wait_for { status_of() == 503 } what => 'a look at both';
        unlink "$dir/second";
        wait_for { status_of() == 200 } what => 'another one';

        # a writer that takes its time, between two looks, until after one

        sleep 0.1;
        my $start = time;
        my $closed = 0;
        open my $fh, '>', $file or die "open: $!";
        while (time - $start < 0.14) { $closed ||= status_of() == 503 }
        print $fh "ok\n";
        close $fh;

        # longer than from look to look it really was empty
        next if time - $start > 0.18;
        $n++;
        $refused += $closed;
    }

    plan skip_all => 'this machine is too slow' unless $n;
    is($refused, 0, "nobody was refused, $n times");
    unlink $file;
};

subtest 'one of several files is enough' => sub {
    put("$dir/second", 'on');
    becomes(503, 'the second');
    put($file, 'on');
    unlink "$dir/second";
    put("$dir/shop", 'on');
    becomes(503, 'the one of a switch', '/shop/');
    is(status_of(), 503, 'the first');
    unlink $file;
    becomes(200, 'neither');
    is(status_of('/shop/'), 503, 'the switch has its own');
    unlink "$dir/shop";
    becomes(200, 'none', '/shop/');
};

subtest 'file and API are two words, one is enough' => sub {
    put($file, '{"message": "file"}');
    becomes(503, 'the file closes');
    control('"off"');
    is(status_of(), 503, 'though the API says off');

    control('{"message": "api"}');
    is($t->get('/')->json->{detail}, 'file', 'both: the file tells');
    put($file, '{"message": "file", "read_only": true}');
    wait_for { $t->get('/')->json->{detail} eq 'api' }
        what => 'the word that closes more';
    is(status_of(), 503, 'who stops readers stops them');

    unlink $file;
    wait_for { global()->{source} eq 'api' } what => 'the file to be gone';
    is(status_of(), 503, 'the API closes');
    control('false');
    is(status_of(), 200, 'open');
};

subtest 'a reload without the directive opens' => sub {
    put($file, 'on');
    becomes(503, 'closed');

    (my $without = $block) =~ s/^\s*gate_maintenance_file.*\n//mg;
    $t->http(workers => 4, $without);
    $t->reload;
    is(status_of(), 200, 'open');

    $t->http(workers => 4, $block);
    $t->reload;
    is(status_of(), 503, 'and with it closes, from the first request on');
    unlink $file;
    becomes(200, 'gone');
};

SKIP: {
    my $strace = skip_unless_cmd('strace', 1);

    subtest 'no request touches a file' => sub {
        my %conn;
        my $c = $t->conn;
        my $pid = $c->request(GET => '/')->header('x-worker');

        # the worker's own thread: the one that looks at files is another

        my $out = $t->dir . '/strace.out';
        my $child = fork;
        die "fork: $!" unless defined $child;

        if (!$child) {
            open STDERR, '>', $t->dir . '/strace.err';
            exec($strace, '-p', $pid, '-o', $out,
                '-e', 'trace=%file,%desc,recvfrom')
                or POSIX::_exit(127);
        }

        my $traced = eval {
            wait_for {
                $c->request(GET => '/');
                -s $out && Gate::slurp($out) =~ /GET/;
            } timeout => 3;
        };

        if ($traced) { $c->request(GET => '/') for 1 .. 50 }
        kill 'INT', $child;
        waitpid $child, 0;
        plan skip_all => 'cannot trace here' unless $traced;

        my $text = Gate::slurp($out);
        my $n = () = $text =~ /GET \//g;
        cmp_ok($n, '>=', 50, 'requests were seen');
        unlike($text, qr/^\w*(?:stat|access|readlink|open)\w*\(/m,
            'and no look at a file');
        $c->close;
    };
}

my ($code, $out) = $t->test_http('gate_maintenance_file '
    . join(' ', map { "%%DIR%%/f$_" } 1 .. 65) . ';');
is($code, 1, '65 files are too many');
like($out, qr/file "\S+f65" is one too many, a node watches up to 64 in/,
    'and it says so');

for my $bad ('global', 'on', 'off', 'a/b', '') {
    ($code, $out) = $t->test_http(
        "gate_maintenance_file %%DIR%%/f switch=$bad;");
    is($code, 1, "switch=$bad is refused");
    like($out, qr/invalid name of a switch "$bad"/, 'and it says so');
}

$t->done;
done_testing;
