#!/usr/bin/perl

# gate_cursor_key: which files are taken, what becomes of them while nginx
# runs, and that nobody gets to see what is in them.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA qw(hmac_sha256_hex);
use Gate;
use MIME::Base64 qw(encode_base64 encode_base64url);
use Test::More;

my @nobody = getpwnam 'nobody';
my $root = $> == 0;
my $t = Gate->new(user => 'nobody ' . getgrgid $nobody[3]);
my $dir = $t->dir;

mkdir "$dir/keys";

my %secret = map {
    ($_ => "the-secret-of-$_-" . 'x' x 32)
} qw(old new next other live);

# A file as mv leaves it: whole, at once.  The workers may read it.

sub put {
    my ($name, $text, $mode, $gid) = @_;
    my $path = "$dir/keys/$name";
    Gate::spew("$path.tmp", $text);
    chown 0, defined $gid ? $gid : $nobody[3], "$path.tmp" if $root;
    chmod defined $mode ? $mode : 0640, "$path.tmp";
    rename "$path.tmp", $path or die "rename: $!";
    return $path;
}

sub cursor {
    my ($secret, $offset) = @_;
    my $payload = sprintf '{"offset":%d,"ts":%d}', $offset || 0, time;
    my $sig = hmac_sha256_hex($payload, $secret);
    my $text = encode_base64url(qq({"payload":$payload,"sig":"$sig"}));
    return $text . '=' x (-length($text) % 4);
}

put($_, "$secret{$_}\n") for keys %secret;

# what may come in the place of a good file

my @bad = (
    ['open to everybody', sub { put($_[0], $secret{other}, 0644) },
        qr/: it can be read or written by everybody/],
    ['empty', sub { put($_[0], '') }, qr/: it is empty/],
    ['an empty line', sub { put($_[0], "\n") }, qr/: it is empty/],
    ['too long', sub { put($_[0], 'x' x 65537) }, qr/: it is too long/],
    ['a directory', sub {
        unlink "$dir/keys/$_[0]";
        mkdir "$dir/keys/$_[0]";
    }, qr/: it is not a regular file/],
    ['of another algorithm', sub {
        system "openssl ecparam -name prime256v1 -genkey -noout"
            . " >$dir/pem 2>$dir/pem.error" and die 'openssl';
        put($_[0], Gate::slurp("$dir/pem"));
    }, qr/: it is for another algorithm/],
    ['broken PEM', sub { put($_[0], "-----BEGIN PRIVATE KEY-----\nx\n") },
        qr/: it holds no public or private key in PEM/],
);

put("bad$_", "$secret{live}\n") for 0 .. $#bad;

my $bad = join '', map { <<"EOT" } 0 .. $#bad;
        location /bad$_ { gate_cursor cursor; proxy_pass http://page;
            gate_cursor_key file=%%DIR%%/keys/bad$_; }
EOT

my $b = $t->backend('ok', body => 'page');

sub config {
    my (%opt) = @_;
    my $keys = $opt{keys} || <<'EOT';
        gate_cursor_key file=%%DIR%%/keys/new id=new;
        gate_cursor_key file=%%DIR%%/keys/old id=old;
EOT
    return (workers => 2, log => 'debug', <<"EOT");
    $keys
    upstream page { server @{[ $b->addr ]}; }
    server {
        listen 127.0.0.1:%%PORT:http%% reuseport;
        add_header X-Pid \$pid always;
        add_header X-Status \$gate_cursor_status always;
        add_header X-Key \$gate_cursor_key_id always;
        location / { gate_cursor cursor; proxy_pass http://@{[ $b->addr ]}; }
        location /live { gate_cursor cursor;
            gate_cursor_key file=%%DIR%%/keys/live;
            proxy_pass http://@{[ $b->addr ]}; }
$bad
        location /gate { gate_status; }
        location /metrics { gate_metrics; }
    }
EOT
}

sub ask {
    my ($secret, $uri) = @_;
    return $t->get(($uri || '/') . '?cursor=' . cursor($secret));
}

# what every worker makes of a cursor of that secret, once they agree

sub agreed {
    my ($secret, $want, $uri, $name) = @_;
    my %seen;
    my $ok = eval {
        wait_for(sub {
            my $r = ask($secret, $uri);
            $seen{ $r->header('x-pid') || '' } = $r->header('x-status') || '';
            my @workers = $t->workers;
            return @workers
                == grep { ($seen{$_} || '') eq $want } @workers;
        }, what => "$name: $want");
        1;
    };
    ok($ok, $name) or diag explain \%seen;
}

sub keys_of {
    my %key = map { ($_->{file} =~ m{([^/]+)\z} ? $1 : '?') => $_ }
        @{ $t->get('/gate')->json->{cursor_keys} };
    return \%key;
}

# a member of a key in status, of every worker

sub wait_key {
    my ($name, $member, $want, $what) = @_;
    my %seen;
    my $ok = eval {
        wait_for(sub {
            my $r = $t->get('/gate');
            my ($k) = grep { $_->{file} eq "$dir/keys/$name" }
                @{ $r->json->{cursor_keys} };
            $seen{ $r->header('x-pid') } = $k->{$member} ? 1 : 0;
            my @workers = $t->workers;
            return @workers == grep { ($seen{$_} // -1) == $want } @workers;
        }, what => $what);
        1;
    };
    ok($ok, $what) or diag explain \%seen;
}

# Which of the texts a process has somewhere in its memory.

sub in_memory {
    my ($pid, @text) = @_;
    my %found;
    no warnings 'portable';
    open my $maps, '<', "/proc/$pid/maps" or return;
    open my $mem, '<:raw', "/proc/$pid/mem" or return;
    while (<$maps>) {
        my ($from, $to) = /^([0-9a-f]+)-([0-9a-f]+) r/ or next;
        ($from, $to) = (hex $from, hex $to);
        next if $to - $from > 1 << 28 || !sysseek $mem, $from, 0;
        sysread $mem, my $bytes, $to - $from or next;
        index($bytes, $_) >= 0 and $found{$_} = 1 for @text;
    }
    return sort keys %found;
}

# what the log says since then, one line each

sub said {
    my ($from, $like) = @_;
    return grep { /$like/ } grep { !/\[debug\]/ }
        split /\n/, $t->log_from($from);
}


subtest 'what is wrong is said by nginx -t' => sub {
    put('good', 'a-good-secret-of-thirty-two-bytes-or-more');
    put('hex', "not hexadecimal, but long enough for anybody\n");
    put('empty', '');
    put('line', "\n");
    put('long', 'x' x 65537);
    put('open', 'a-secret-that-is-open-to-everybody-here', 0644);
    put('written', 'a-secret-that-everybody-may-write-here', 0602);
    put('group', 'a-secret-of-another-group-than-workers', 0640, 12345);
    mkdir "$dir/keys/directory";
    system 'mkfifo', '-m', '600', "$dir/keys/fifo";

    my $ring = join '', map {
        put("ring$_", "$_-a-good-secret-of-thirty-two-bytes-or-more");
        "gate_cursor_key file=%%DIR%%/keys/ring$_;"
    } 1 .. 9;

    my @case = (
        ['id=x', qr/"gate_cursor_key" needs "file="/],
        ['file=', qr/invalid parameter, it must be "file="/],
        ['file=%%DIR%%/keys/none', qr/none" cannot be opened \(2: No such/],
        ['file=%%DIR%%/keys/empty', qr{keys/empty" is empty}],
        ['file=%%DIR%%/keys/line', qr{keys/line": it is empty}],
        ['file=%%DIR%%/keys/long', qr{keys/long" is too long}],
        ['file=%%DIR%%/keys/open',
            qr{keys/open" can be read or written by everybody}],
        ['file=%%DIR%%/keys/written',
            qr{keys/written" can be read or written by everybody}],
        ['file=%%DIR%%/keys/directory',
            qr{keys/directory" is not a regular file}],
        ['file=%%DIR%%/keys/fifo', qr{keys/fifo" is not a regular file}],
        ['file=%%DIR%%/keys/hex format=hex',
            qr{keys/hex": it is not hexadecimal}],
        ['file=%%DIR%%/keys/hex format=base64',
            qr{keys/hex": it is not base64}],
        ['file=%%DIR%%/keys/hex format=pem', qr{cursor key file ".*keys/hex":}],
        ['file=%%DIR%%/keys/good format=jwk', qr/invalid format "jwk"/],
        ['file=%%DIR%%/keys/good format=auto', qr/invalid format "auto"/],
        ['file=%%DIR%%/keys/good alg=none', qr/invalid algorithm "none"/],
        ['file=%%DIR%%/keys/good alg=hs256', qr/invalid algorithm "hs256"/],
        ['file=%%DIR%%/keys/good alg=ES256',
            qr{keys/good": ES256 and EdDSA need a key in PEM}],
        ['file=%%DIR%%/keys/good id=', qr/invalid id ""/],
        ['file=%%DIR%%/keys/good id=a/b', qr{invalid id "a/b"}],
        ['file=%%DIR%%/keys/good id=' . 'x' x 65, qr/invalid id "x+"/],
        (map { [$_, qr/invalid parameter, it must be "file="/] }
            'secret=hunter2hunter2', 'hunter2hunter2', 'aHVudGVyMmh1bnRlcjI='),
        ['file=%%DIR%%/keys/good; gate_cursor_key file=%%DIR%%/keys/good',
            qr{keys/good" is named twice here}],
        ['file=%%DIR%%/keys/good id=a; '
            . 'gate_cursor_key file=%%DIR%%/keys/new id=a',
            qr{two cursor keys have the id "a" here}],
    );
    push @case, ['file=%%DIR%%/keys/group', qr{by a group that is not the}]
        if $root;

    for (@case) {
        my ($args, $like) = @$_;
        my ($code, $out) = $t->test_http("gate_cursor_key $args;");
        isnt($code, 0, "refused: $args");
        like($out, $like, "why: $args");
        unlike($out, qr/hunter2|aHVudG/, 'and not what may be a key');
        like($out, qr{test\.conf:\d+}, "where: $args");
        unlike($out, qr/hunter2|a-good-secret|not hexadecimal, but|open-to/,
            "no byte of it: $args");
    }

    my ($code, $out) = $t->test_http($ring);
    isnt($code, 0, 'nine keys are too many');
    like($out, qr/more than 8 cursor keys here/, 'and this is said');

    $ring =~ s/gate_cursor_key \S+ring9;//;
    ($code, $out) = $t->test_http($ring);
    is($code, 0, 'eight keys are not') or diag $out;
    unlike($out, qr/\[warn\]/, 'good keys bring no warning');
};


subtest 'a weak key is a warning, once for each file' => sub {
    put('short', "only-20-bytes-long!!\n");
    put('known', "your-256-bit-secret-no\n");
    put('default', "changeme\n");

    for (['short', qr/is shorter than 32 bytes/],
        ['default', qr/is a default that everybody knows/])
    {
        my ($name, $like) = @$_;
        my $key = "gate_cursor_key file=%%DIR%%/keys/$name";
        my ($code, $out) = $t->test_http(<<"EOT");
            $key;
            server { $key id=a; location / { $key; } }
EOT
        is($code, 0, "$name: it works all the same") or diag $out;
        is(scalar(() = $out =~ /\[warn\]/g), 1, "$name: one warning");
        like($out, qr{cursor key in "\Q$dir\E/keys/$name" $like[^\n]* in },
            "$name: of what, with the line");
        unlike($out, qr/only-20|changeme/, "$name: no byte of it");
    }
};


$t->http(config());
$t->start;

subtest 'both keys are good, and each hit is counted for its key' => sub {
    my $r = ask($secret{new});
    is($r->status, 200, 'the new one');
    is($r->header('x-key'), 'new', 'and which it was');

    $r = ask($secret{old}) for 1 .. 2;
    is($r->status, 200, 'the old one');
    is($r->header('x-key'), 'old', 'and which it was');

    $r = ask($secret{other});
    is($r->status, 400, 'no other');

    my $key = keys_of();
    is($key->{new}{hits}, 1, 'hits of the new one');
    is($key->{old}{hits}, 2, 'hits of the old one');
    is($key->{live}{hits}, 0, 'hits of one of another location');
};

subtest 'a rotation: a new key first, hits move, the old one goes' => sub {
    $t->http(config(keys => <<'EOT'));
        gate_cursor_key file=%%DIR%%/keys/next id=next;
        gate_cursor_key file=%%DIR%%/keys/new id=new;
        gate_cursor_key file=%%DIR%%/keys/old id=old;
EOT
    $t->reload;
    is(ask($secret{next})->header('x-key'), 'next', 'the newest one is in use');
    is(ask($secret{new})->header('x-key'), 'new', 'the last one still is');

    my $key = keys_of();
    is($key->{next}{hits}, 1, 'hits of the newest');
    is($key->{new}{hits}, 2, 'hits go on over a reload');
    is($key->{old}{hits}, 2, 'nobody uses the old one any more');

    $t->http(config(keys => <<'EOT'));
        gate_cursor_key file=%%DIR%%/keys/next id=next;
        gate_cursor_key file=%%DIR%%/keys/new id=new;
EOT
    $t->reload;
    is(ask($secret{old})->status, 400, 'a key that was removed is none');
    ok(!exists keys_of()->{old}, 'nor is it in the status');

    $t->http(config());
    $t->reload;
    is(ask($secret{old})->status, 200, 'and when it comes back it works');
    is(keys_of()->{old}{hits}, 3, 'with its hits');
};

subtest 'a file named in several places is one' => sub {
    $t->http(<<"EOT");
    gate_cursor_key file=%%DIR%%/keys/new id=new;
    server {
        listen 127.0.0.1:%%PORT:http%% reuseport;
        add_header X-Pid \$pid always;
        location / { gate_cursor cursor;
            gate_cursor_key file=%%DIR%%/keys/new id=new;
            proxy_pass http://@{[ $b->addr ]}; }
        location /b { gate_cursor cursor; gate_cursor_key id=new
            file=%%DIR%%/keys/new; proxy_pass http://@{[ $b->addr ]}; }
        location /other { gate_cursor cursor;
            gate_cursor_key file=%%DIR%%/keys/new;
            proxy_pass http://@{[ $b->addr ]}; }
        location /gate { gate_status; }
    }
EOT
    $t->reload;
    my @keys = @{ $t->get('/gate')->json->{cursor_keys} };
    is_deeply([map { $_->{id} } @keys], ['new', undef],
        'one with an id, and one without');
    $t->http(config());
    $t->reload;
};


subtest 'a file that changes is read by all workers, without a reload' => sub {
    my $from = $t->log_size;
    put('live', "$secret{other}\n");
    agreed($secret{other}, 'valid', '/live', 'the new key is good');
    agreed($secret{live}, 'bad_signature', '/live', 'the one before is not');

    is(scalar(said($from, qr{\[notice\].*keys/live" has changed, its key is in use})),
        2, 'each worker says so once');
    my $key = keys_of()->{live};
    is($key->{reads}, 2, 'and counts it');
    is($key->{errors}, 0, 'no error');

    put('live', "$secret{live}\n");
    agreed($secret{live}, 'valid', '/live', 'and back');
};

subtest 'a file touched, but not changed, is no news' => sub {
    my $reads = keys_of()->{live}{reads};
    my $from = $t->log_size;
    utime undef, undef, "$dir/keys/live";
    wait_for(sub { keys_of()->{live}{reads} >= $reads + 2 },
        what => 'both workers looked');
    is(ask($secret{live}, '/live')->status, 200, 'its key works');
    is(scalar(said($from, qr{keys/live})), 0, 'nothing is said');
};

my $from = $t->log_size;
my $was = keys_of();
$bad[$_][1]->("bad$_") for 0 .. $#bad;

for my $i (0 .. $#bad) {
    my ($what, undef, $like) = @{ $bad[$i] };
    my $name = "bad$i";

    subtest "the last good key stays when the file is $what" => sub {
        wait_key($name, 'bad', 1, "every worker finds it $what");
        agreed($secret{live}, 'valid', "/$name", 'the last good key is in use');
        is(ask($secret{other}, "/$name")->status, 400, 'not the other one');

        my $key = keys_of()->{$name};
        is($key->{errors} - $was->{$name}{errors}, 2,
            'each worker counts it once');
        ok($key->{live}, 'they can read it');
        my @said = said($from, qr{\[warn\].*keys/$name" has changed, but });
        is(@said, 2, 'each says so once');
        like($said[0], $like, 'and why');
    };
}

subtest 'a good file after a bad one is in use again' => sub {
    rmdir "$dir/keys/bad4";
    put("bad$_", "$secret{next}\n") for 0 .. $#bad;
    agreed($secret{next}, 'valid', '/bad0', 'its key is good');
    wait_key("bad$_", 'bad', 0, 'and it is not bad any more')
        for 0 .. $#bad;
};

subtest 'the right of everybody to read it comes, and goes' => sub {
    chmod 0644, "$dir/keys/live";
    wait_key('live', 'bad', 1, 'this is seen, though only the mode changed');
    my $from = $t->log_size;
    chmod 0640, "$dir/keys/live";
    wait_key('live', 'bad', 0, 'and that it is gone');
    agreed($secret{live}, 'valid', '/live', 'the key is in use');
    like($t->log_from($from), qr{keys/live" has the key again}, 'this is said');
};

subtest 'the last good key stays when the file is gone' => sub {
    my $from = $t->log_size;
    rename "$dir/keys/live", "$dir/keys/away" or die;
    wait_key('live', 'live', 0, 'every worker misses it');
    agreed($secret{live}, 'valid', '/live', 'the last good key is in use');
    ok(!keys_of()->{live}{bad}, 'there is nothing bad');

    rename "$dir/keys/away", "$dir/keys/live" or die;
    wait_key('live', 'live', 1, 'and it is found again');
    is(scalar(said($from, qr{\[warn\].*keys/live" cannot be read, the last})), 2,
        'each worker has said so once');
};

subtest 'a symlink that leads elsewhere is a change' => sub {
    put("v$_", "$secret{$_}\n") for qw(next other);
    symlink 'vnext', "$dir/keys/tmp" or die;
    rename "$dir/keys/tmp", "$dir/keys/live" or die;
    agreed($secret{next}, 'valid', '/live', 'the key that it leads to');

    # as Kubernetes does it, a directory away
    mkdir "$dir/keys/data$_" for 1, 2;
    rename "$dir/keys/vnext", "$dir/keys/data1/live" or die;
    rename "$dir/keys/vother", "$dir/keys/data2/live" or die;
    symlink 'data1', "$dir/keys/data" or die;
    symlink 'data/live', "$dir/keys/tmp" or die;
    rename "$dir/keys/tmp", "$dir/keys/live" or die;
    wait_key('live', 'live', 1, 'the same one by another way');
    symlink 'data2', "$dir/keys/tmp" or die;
    rename "$dir/keys/tmp", "$dir/keys/data" or die;
    agreed($secret{other}, 'valid', '/live', 'a directory swapped');
    agreed($secret{next}, 'bad_signature', '/live', 'not the one before');
};

subtest 'a file that is written slowly ends up with the right key' => sub {
    unlink "$dir/keys/live" or die;
    umask 077;
    open my $fh, '>', "$dir/keys/live" or die;
    umask 022;
    chown 0, $nobody[3], "$dir/keys/live" if $root;
    chmod 0640, "$dir/keys/live";
    $fh->autoflush(1);
    wait_key('live', 'bad', 1, 'it is empty at first');
    agreed($secret{other}, 'valid', '/live', 'the last good key is in use');
    print $fh $secret{next};
    agreed($secret{next}, 'valid', '/live', 'then there is a key');
    print $fh '-and-more';
    close $fh;
    agreed("$secret{next}-and-more", 'valid', '/live', 'then a longer one');
    wait_key('live', 'bad', 0, 'nothing is bad');
};

subtest 'a worker that was killed comes back with the key of today' => sub {
    put('live', "$secret{other}\n");
    agreed($secret{other}, 'valid', '/live', 'the key is good');
    $t->kill_worker('KILL', wait => 1) for 1 .. 2;
    for (1 .. 6) {
        my $r = ask($secret{other}, '/live');
        is($r->header('x-status'), 'valid', 'also for the new worker');
    }
};

subtest 'a reload with a broken file changes nothing' => sub {
    put('new', '');
    my $from = $t->log_size;
    $t->allow(qr{keys/new" is empty});
    $t->reload(may_fail => 1);
    $t->wait_log(qr{\[emerg\].*keys/new" is empty}, from => $from);
    is(ask($secret{$_})->status, 200, "nginx works on, with $_")
        for qw(new old);
    wait_key('new', 'bad', 1, 'the workers have seen it too');

    put('new', "$secret{next}\n");
    agreed($secret{next}, 'valid', '/', 'and take what comes next');
    $t->reload;
    is(ask($secret{next})->status, 200, 'as does a reload');
    ok(!keys_of()->{new}{bad}, 'nothing is bad');
};

subtest 'a file that only root can read takes a reload' => sub {
    plan skip_all => 'needs root' if !$root;

    my $from = $t->log_size;
    put('live', "$secret{next}\n", 0600);
    wait_key('live', 'live', 0, 'no worker can read it');
    my $like = qr{keys/live" has changed, but cannot be read, .* until nginx};
    $t->wait_log($like, from => $from);
    agreed($secret{other}, 'valid', '/live', 'the last good key is in use');

    $from = $t->log_size;
    $t->reload;
    agreed($secret{next}, 'valid', '/live', 'the reload brings the new one');
    wait_key('live', 'live', 0, 'the workers still cannot read it');
    is(scalar(said($from, qr{\[warn\].*keys/live"})), 0,
        'and as it was configured like that nobody warns');

    chown 0, $nobody[3], "$dir/keys/live";
    chmod 0640, "$dir/keys/live";
    wait_key('live', 'live', 1, 'when they may, they do');
};

subtest 'a key that gets weak while nginx runs is a warning' => sub {
    my $from = $t->log_size;
    put('live', "changeme\n");
    agreed('changeme', 'valid', '/live', 'it is in use');
    is(keys_of()->{live}{weak}, 'known', 'and known as weak');
    $t->wait_log(qr{\[warn\].*keys/live" is a default that}, from => $from);
    put('live', "$secret{live}\n");
    agreed($secret{live}, 'valid', '/live', 'a good one');
    is(keys_of()->{live}{weak}, undef, 'is none');
};

subtest 'without a master the one process does it all' => sub {
    my $one = Gate->new;
    my $write = sub {
        Gate::spew($one->dir . '/tmp/key', @_);
        chmod 0600, $one->dir . '/tmp/key';
        rename $one->dir . '/tmp/key', $one->dir . '/key' or die;
    };
    $write->($secret{old});
    $one->http(workers => 1, main => 'master_process off;', <<"EOT");
    server {
        listen 127.0.0.1:%%PORT:http%% reuseport;
        location / { gate_cursor cursor;
            gate_cursor_key file=%%DIR%%/key;
            proxy_pass http://@{[ $b->addr ]}; }
    }
EOT
    $one->start;
    is($one->get('/?cursor=' . cursor($secret{old}))->status, 200, 'the key');
    $write->($secret{next});
    wait_for {
        $one->get('/?cursor=' . cursor($secret{next}))->status == 200
    } what => 'the new key';
    pass('a file that changed is read');
    $one->done;
};


subtest 'no process keeps the text of a key, present or past' => sub {
    my ($pid) = $t->workers;
    plan skip_all => 'the memory of others is not ours to read'
        if $ENV{SANITIZE} || !@{ [in_memory($pid, 'keys/new')] };

    for ($t->pid, $t->workers) {
        is_deeply([in_memory($_, 'the-secret-of-', 'a-good-secret')],
            [], 'there is nothing');
    }
};

subtest 'nobody gets to see a key' => sub {
    my %text = (
        'the log' => Gate::slurp("$dir/error.log"),
        'the status' => $t->get('/gate')->body,
        'metrics' => $t->get('/metrics')->body,
        'a refusal' => ask('wrong')->as_text,
        'nginx -T' => scalar qx($t->{nginx} -T -p $dir/ \\
            -c nginx.conf -e $dir/test.log 2>&1),
    );
    for my $where (sort keys %text) {
        cmp_ok(length $text{$where}, '>', 0, "$where: there is something");
        for my $secret (values %secret) {
            my @forms = ($secret, unpack('H*', $secret),
                encode_base64($secret, ''), scalar reverse $secret);
            is((grep { index(lc $text{$where}, lc $_) >= 0 } @forms), 0,
                "$where: no secret");
        }
    }
};

$t->done;
done_testing;
