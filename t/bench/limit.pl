#!/usr/bin/perl

# Copyright (C) nginx-gate authors

# What a limit costs, beside others that limit, in the same run:
#
#   instructions  that a worker executes in user space for a proxied request,
#                 by callgrind as in bench.pl: limit_req, one limit, its
#                 headers, two limits, the whole gate; and what the fleet adds
#   throughput    of wrk, by turns, everything but Redis on one processor: the
#                 whole gate with Redis, limit_req, a limiter in Lua with a
#                 shared dictionary, and one that asks Redis for each request
#   memory        bytes for a key, of a zone that is filled with a million
#                 of them, and of limit_req's
#   flood         of keys that come once: those in debt are not forgotten,
#                 and the others not slowed down
#
#   table         one decision, by limit-table.c
#
# LIMIT_ONLY=memory does one, LIMIT_QUICK=1 is for a look, LIMIT_FLOOD=n says
# how many keys come, LIMIT_KEEP=DIR keeps callgrind's files.  The exit code is
# 1 if a budget is exceeded.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use File::Copy ();
use Time::HiRes qw(sleep time);

use Gate::Bench qw(calm count drive interval median processor quit wrk);
use Gate::Tool;
use Gate::Util qw(json root slurp wait_for which);

use constant {
    LIMIT      => 500,                   # instructions over the plain proxy
    ALL        => 1500,
    THROUGHPUT => 0.97,                  # of the plain proxy's
    BYTES      => 48 * 1024 * 1024,      # for a million keys
    FLOODED    => 0.90,                  # of what others get without a flood
    KEYS       => 100,                   # known ones, for callgrind
    BUSY       => 5000,                  # requests a second of a busy nginx
    RESTART    => 5,                     # rounds
};

my $quick = $ENV{LIMIT_QUICK};
my $only = $ENV{LIMIT_ONLY} || '';
my @counts = $quick ? (244, 1220) : (488, 4880);
my $pairs = $ENV{LIMIT_PAIRS} || ($quick ? 3 : 30);
my $flood = $ENV{LIMIT_FLOOD} || ($quick ? 300_000 : 5_000_000);
my $failed = 0;

my %job = (instructions => \&instructions, throughput => \&throughput,
    memory => \&memory, flood => \&flood, table => \&table);
die "LIMIT_ONLY is one of: @{[ sort keys %job ]}\n" if $only && !$job{$only};

for (qw(valgrind wrk redis-server)) {
    which($_) or die "no $_\n";
}

calm();

my @cpu = processor();
my $tool = Gate::Tool->new(module => 0);
my $redis = $tool->redis;
backend();

$job{$_}->() for $only ? $only :
    qw(instructions throughput memory flood table);

my @problems = $tool->done;
print "problem: $_\n" for @problems;
exit($failed || @problems ? 1 : 0);


# The servers.

sub backend {
    $tool->http(workers => 1, log => 'error', <<'EOF_CONF');
    keepalive_requests 1000000000;
    client_header_buffer_size 8k;
    server {
        listen 127.0.0.1:%%PORT:a%%;
        listen 127.0.0.1:%%PORT:b%%;
        location / { return 200 "hello\n"; }
    }
EOF_CONF
    $tool->prefix(@cpu);
    $tool->start;
}

sub arms {
    return join '', map {
        my ($name, $port) = @$_;
        "    upstream $name {\n"
        . "        server 127.0.0.1:$port;\n"
        . "        keepalive 64;\n"
        . "        keepalive_requests 1000000000;\n"
        . "    }\n";
    } [shop_v1 => $tool->port('a')], [shop_v2 => $tool->port('b')];
}

# Of a key of its own zone, that nothing limits.

sub zone {
    my ($name, %opt) = @_;
    my $more = $opt{more} || '';
    return "gate_limit_zone $name key=\$http_x_api_key rate=1000r/s "
        . "burst=100000 max_keys=100000 $more;";
}

sub variants {
    my $gate = '
    gate_state %%DIR%%/state;
    gate_maintenance_file %%DIR%%/maintenance;
    gate_maintenance on;

    upstream shop {
        gate_canary shop_v1 shop_v2 weight=10%;
        gate_breach error_rate=5% window=10m min=100;
        gate_breach p95=2s window=10m min=100;
    }
';
    my $nginx = 'limit_req_zone $http_x_api_key zone=z:16m rate=1000r/s;';
    my $address = 'gate_redis redis://' . $redis->addr . ';';

    return (
        { name => 'plain', module => 0, what => 'plain proxy' },

        { name => 'nginx', module => 0, http => $nginx,
          location => 'limit_req zone=z burst=100000 nodelay;',
          what => 'nginx: limit_req' },

        { name => 'limit', http => zone('z'),
          location => 'gate_limit zone=z headers=off;',
          what => 'gate_limit, headers=off' },

        { name => 'ietf', http => zone('z'),
          location => 'gate_limit zone=z;',
          what => 'gate_limit, headers=ietf' },

        { name => 'two', http => zone('y') . zone('z'), location => '
            gate_limit zone=y headers=off; gate_limit zone=z headers=off;',
          what => 'gate_limit, two zones, headers=off' },

        { name => 'gate', http => $gate . zone('z'), pass => 'shop',
          location => 'gate_limit zone=z headers=off;',
          what => 'gate: canary, maintenance, a limit' },

        { name => 'fleet', http => $gate . zone('z') . $address,
          pass => 'shop', location => 'gate_limit zone=z headers=off;',
          what => 'gate: the same, in a fleet' },

        { name => 'alone', http => $gate . zone('z', more => 'sync=off'),
          pass => 'shop', location => 'gate_limit zone=z headers=off;',
          what => 'gate: the same, without a fleet' },

        lua(),
    );
}

# Only those with these names, and those that are there.

sub named {
    my %v = map { $_->{name} => $_ } variants();
    return map { $v{$_} || () } @_;
}

sub proxy {
    my ($v, %opt) = @_;

    my $t = Gate::Tool->new(exists $v->{module} ? (module => 0) : ());
    my $http = $v->{http} || '';
    my $location = $v->{location} || '';
    my $pass = $v->{pass} || 'shop_v1';
    my $pads = $opt{pads} ? Gate::Bench::pads() : '';
    my $main = ($v->{main} || '') . ($opt{main} || '');
    my $arms = arms();

    $t->http(workers => 1, log => 'notice', main => $main, <<"EOF_CONF");
$arms
    $http
    keepalive_requests 1000000000;
    client_header_buffer_size 8k;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    $pads

    server {
        listen 127.0.0.1:%%PORT:http%%;
        location / {
            $location
            proxy_pass http://$pass;
        }
        location = /gate { @{[ exists $v->{module} ? '' : 'gate_status;' ]} }
    }
EOF_CONF

    $t->prefix(@cpu, @{ $v->{prefix} || [] });
    return $t;
}

sub status { my ($t) = @_; return $t->get('/gate')->json }

# It has joined the fleet, where it has one to join.

sub joined {
    my ($v, $t) = @_;
    wait_for { status($t)->{redis}{joined} } timeout => 60,
        what => 'the node to join' if $v->{name} eq 'fleet';
}


# The peers in Lua: the same arithmetic, as it is usually written there.

my $unpacked;

sub lua {
    $unpacked = `"@{[ root() ]}/t/tools/lua-peer.sh" 2>&1`
        unless defined $unpacked;
    return () if $unpacked eq '';

    my ($dir) = $unpacked =~ m{^(/.*)\n\z};
    my ($libs) = $dir ? glob("$dir/usr/lib/*/libluajit*.so.2") : ();
    my $why = !$dir || !$libs ? $unpacked : undef;

    my @v;
    if (!defined $why) {
        $libs =~ s{/[^/]+\z}{};
        my $modules = "$dir/usr/lib/nginx/modules";
        @v = map { {
            module => 0,
            prefix => [which('env'), "LD_LIBRARY_PATH=$libs"],
            main => "load_module $modules/ndk_http_module.so;\n"
                . "load_module $modules/ngx_http_lua_module.so;\n",
            %$_,
        } } lua_dict($dir), lua_redis($dir);

        my $t = proxy($v[0]);
        my ($code, $text) = $t->test_conf;
        ($why) = $code eq '0' ? undef : $text =~ /^(.*)/;
        $t->done;
    }

    if (defined $why) {
        chomp $why;
        print "SKIPPED: the limiters in Lua: $why\n\n";
        $unpacked = '';
        return ();
    }

    return @v;
}

sub lua_dict {
    my ($dir) = @_;

    return { name => 'lua', what => 'Lua with a shared dictionary', http => "
    lua_package_path '$dir/usr/share/lua/5.1/?.lua;;';
    lua_shared_dict limits 16m;
", location => 'access_by_lua_block {
        local key = ngx.var.http_x_api_key
        if not key then
            return
        end

        local interval, capacity = 0.001, 100001
        local dict, now = ngx.shared.limits, ngx.now()
        local tat = dict:get(key) or now
        if tat < now then
            tat = now
        end

        if tat - now > interval * (capacity - 1) then
            return ngx.exit(429)
        end

        dict:set(key, tat + interval, interval * capacity + 1)
    }' };
}

sub lua_redis {
    my ($dir) = @_;
    my $port = $redis->port;

    return { name => 'lua-redis', what => 'Lua that asks Redis', http => "
    lua_package_path '$dir/usr/share/lua/5.1/?.lua;;';
    init_by_lua_block {
        script = [[
            local t = redis.call('TIME')
            local now = t[1] + t[2] / 1000000
            local interval, capacity = tonumber(ARGV[1]), tonumber(ARGV[2])
            local tat = tonumber(redis.call('GET', KEYS[1]) or now)
            if tat < now then
                tat = now
            end
            if tat - now > interval * (capacity - 1) then
                return 1
            end
            tat = tat + interval
            redis.call('SET', KEYS[1], string.format('%.6f', tat),
                'PX', math.ceil((tat - now) * 1000) + 1)
            return 0
        ]]

        function ask(how, what, key)
            local sock = ngx.socket.tcp()
            sock:settimeout(1000)
            local ok, err = sock:connect('127.0.0.1', $port)
            if not ok then
                return nil, err
            end

            sock:send({ '*6\\r\\n\$', #how, '\\r\\n', how, '\\r\\n\$', #what,
                '\\r\\n', what, '\\r\\n\$1\\r\\n1\\r\\n\$', #key, '\\r\\n',
                key, '\\r\\n\$5\\r\\n0.001\\r\\n\$6\\r\\n100001\\r\\n' })
            local line, err = sock:receive()
            if line then
                sock:setkeepalive(60000, 100)
            end
            return line, err
        end
    }
", location => 'access_by_lua_block {
        local key = ngx.var.http_x_api_key
        if not key then
            return
        end

        local answer
        if sha then
            answer = ask("EVALSHA", sha, key)
        end

        if not answer or answer:byte() == 45 then
            answer = ask("EVAL", script, key)
            sha = string.gsub(ngx.sha1_bin(script), ".", function (c)
                return string.format("%02x", c:byte())
            end)
        end

        if answer == ":1" then
            return ngx.exit(429)
        end

        if answer ~= ":0" then
            ngx.log(ngx.ERR, "redis: ", answer)
            return ngx.exit(500)
        end
    }' };
}


# Instructions.

sub instructions {
    print "User-space instructions per proxied request ",
        "(callgrind, $counts[0] and $counts[1] requests)\n\n";
    printf "  %-46s %9s %8s  %s\n", '', '', 'over', 'malloc()';
    printf "  %-46s %9s %8s  %s\n", '', 'without', 'plain',
        'calls  instructions';

    my (%over, $base);
    my @v = map { { %$_, keys => KEYS } }
        named(qw(plain nginx limit ietf two gate));
    push @v, map { { %$_, what => "$_->{what}, a new key each",
        name => "$_->{name} new" } } named(qw(nginx limit)) unless $quick;

    for my $v (@v) {
        my @c = map { callgrind($v, $_) } @counts;
        my %n = map { $_ => ($c[1]{$_} - $c[0]{$_})
            / ($counts[1] - $counts[0]) } keys %{ $c[0] };

        my $n = $n{total} - $n{heap};
        $base = $n unless defined $base;
        $over{ $v->{name} } = $n - $base;

        printf "  %-46s %9.0f %+8.0f  %5.2f  %.0f\n", $v->{what}, $n,
            $n - $base, $n{calls}, $n{heap};
    }

    my $fleet = fleet_cost();

    print "\n";
    at_most('instructions for a limit without headers', $over{limit}, LIMIT);
    at_most('instructions for it, beside limit_req\'s', $over{limit},
        $over{nginx});
    at_most('instructions for the gate, a limit and the fleet',
        $over{gate} + $fleet, ALL);
    print "\n";
}

sub callgrind {
    my ($v, $requests) = @_;

    my $t = proxy($v, pads => 1, main => 'master_process off;');
    my $out = $t->dir . '/callgrind.out';

    $t->prefix(which('valgrind'), '--tool=callgrind', '-q',
        "--callgrind-out-file=$out");
    $t->start;
    drive($t->port, $requests, keys => $v->{keys});
    quit($t);

    keep($out, "$v->{name}.$requests");

    my $count = count($out);
    finish($t);
    return $count;
}

sub keep {
    my ($file, $name) = @_;

    my $dir = $ENV{LIMIT_KEEP} or return;
    mkdir $dir;
    File::Copy::copy($file, "$dir/$name");
}

sub finish {
    for my $t (@_) {
        my @wrong = $t->done or next;
        print "problem: $_\n" for @wrong;
        $failed = 1;
    }
}

# What the fleet costs: instructions a second, for each batch that goes to Redis
# and for each key in it, in however many requests it was seen.  The agent's
# work goes with time, and with these.  Under callgrind time is long, so they
# are told apart: one nginx, which is the agent, runs for a while without
# requests, and with as many as callgrind can do with ease of one key and of
# many, in a fleet and without.

sub fleet_cost {
    my $seconds = $quick ? 5 : 20;
    my ($fleet, $alone) = named(qw(fleet alone));

    my ($idle) = timed($fleet, $seconds, 0);
    $idle -= (timed($alone, $seconds, 0))[0];

    my ($busy) = timed($alone, $seconds, 40);
    my ($one, $keys, $batches) = timed($fleet, $seconds, 1);
    my ($many, $keys2, $batches2) = timed($fleet, $seconds, 40);

    # what is more than without requests: batches, and keys in them
    $_ -= $busy + $idle for $one, $many;
    my $divisor = $keys2 * $batches - $keys * $batches2;
    my $key = ($many * $batches - $one * $batches2) / $divisor;
    my $batch = ($one - $keys * $key) / $batches;
    my $second = $idle / $seconds;

    my $line = "  %-46s %9s %8.0f  %s\n";
    printf $line, 'the fleet, instructions', '', $second, 'a second';
    printf $line, '', '', $batch, 'a batch to Redis';
    printf $line, '', '', $key, 'a key in it';

    # so many callers, each told of as often as each of these
    my $rounds = $batches2 / $seconds;
    my %request = map {
        my $told = $_ * $keys2 / 40 / $seconds;
        my $more = $told / $rounds / 128;
        $_ => ($second + $key * $told + $batch * $rounds
            * ($more > 1 ? $more : 1)) / BUSY;
    } KEYS, 10 * KEYS;

    printf "  %-46s %9s %8.1f  times a second\n", '... which is told of', '',
        $keys2 / 40 / $seconds;
    printf "  %-46s %9s %+8.0f\n", "the fleet, at @{[ BUSY ]}/s by $_ callers",
        '', $request{$_} for sort { $a <=> $b } keys %request;

    return $request{ +KEYS };
}

# Instructions in that time with requests by so many keys, and how many keys
# Redis was told of in how many batches.

sub timed {
    my ($v, $seconds, $keys) = @_;

    my $t = proxy($v, main => 'master_process off;');
    my $out = $t->dir . '/callgrind.out';
    my $control = which('callgrind_control');

    $t->prefix(which('valgrind'), '--tool=callgrind', '-q',
        "--callgrind-out-file=$out");
    $t->start;
    joined($v, $t);

    # as many connections, however many keys
    my @load = map { $t->load(rate => 5, conns => 1, port => $t->port,
        headers => { 'X-Api-Key' => 'key-' . $_ % $keys }) }
        $keys ? 1 .. 40 : ();
    sleep 3;

    my $before = status($t)->{limits}{z}{sync};
    system("$control -z " . $t->pid . ' >/dev/null 2>&1') == 0
        or die "callgrind_control failed\n";
    my $start = time;
    sleep $seconds;
    system("$control -d " . $t->pid . ' >/dev/null 2>&1') == 0
        or die "callgrind_control failed\n";
    my $took = time - $start;
    my $after = status($t)->{limits}{z}{sync};

    my @results = map { $_->stop } @load;
    quit($t);

    keep("$out.1", "$v->{name}.timed.$keys");

    my $count = count("$out.1");
    finish($t);
    return (($count->{total} - $count->{heap}) * $seconds / $took,
        map { ($after->{$_} || 0) - ($before->{$_} || 0) } qw(keys batches));
}


# Throughput.

sub throughput {
    my @v = named(qw(plain fleet alone limit nginx lua lua-redis));

    print "Requests per second, $pairs interleaved rounds of 1 s, one worker",
        (@cpu ? '; all but Redis on one processor' : ''), "\n\n";

    for my $round (1 .. $pairs) {
        fresh(@v) if $round % RESTART == 1;

        for my $v ($round % 2 ? @v : reverse @v) {
            my ($rate, $cpu) = wrk($v->{t}, $v->{lua}, 1);
            push @{ $v->{rate} }, $rate;
            push @{ $v->{cpu} }, $cpu;
        }
    }

    finish(map { $_->{t} } @v);

    printf "  %-40s %10s %8s %9s  %s\n", '', 'requests/s', 'cpu us',
        'of plain', '95 % interval';

    for my $v (@v) {
        my @ratio = map { $v->{rate}[$_] / $v[0]{rate}[$_] } 0 .. $pairs - 1;
        ($v->{low}, my $high) = interval(@ratio);
        $v->{ratio} = median(@ratio);
        printf "  %-40s %10.0f %8.1f %9.4f  %.4f .. %.4f\n", $v->{what},
            median(@{ $v->{rate} }), median(@{ $v->{cpu} }), $v->{ratio},
            $v->{low}, $high;
    }

    print "\n";
    my %v = map { $_->{name} => $_ } @v;
    at_least('throughput with all, lower end of the interval',
        $v{fleet}{low}, THROUGHPUT) unless $quick;

    for (grep { $v{$_} } qw(lua lua-redis)) {
        at_least("throughput with all, beside $v{$_}{what}", $v{fleet}{ratio},
            $v{$_}{ratio});
    }
    print "\n";
}

# New processes for each, warmed up.

sub fresh {
    my (@v) = @_;

    finish(map { $_->{t} || () } @v);

    for my $v (@v) {
        $v->{t} = proxy($v);
        $v->{t}->start;
        joined($v, $v->{t});
        $v->{lua} = $v->{t}->write_file('wrk.lua', Gate::Bench::script());
        wrk($v->{t}, $v->{lua}, 1);
    }
}


# Memory.

# An nginx that answers itself: the keys that come are its only work.

sub answering {
    my ($conf, $location, %opt) = @_;

    my $t = Gate::Tool->new(%opt);
    my $gate = %opt ? '' : 'gate_status;';

    $t->http(workers => 1, log => 'notice', <<"EOF_CONF");
    $conf
    keepalive_requests 1000000000;
    server {
        listen 127.0.0.1:%%PORT:http%%;
        location / { $location empty_gif; }
        location = /gate { $gate }
    }
EOF_CONF

    $t->start;
    return $t;
}

# So many keys, each in a request of its own.

sub ask {
    my ($t, $keys, $name) = (@_, 'key');

    return $t->load(port => $t->port, rate => 1_000_000, conns => 16,
        number => $keys, within => 3600,
        headers => { 'X-Api-Key' => "$name-%d" });
}

sub asked {
    my ($t, @args) = @_;

    my $result = ask($t, @args)->result;
    my ($errors) = grep { $_ } values %{ $result->{errors} };
    die "$errors requests failed\n" if $errors;
    die "$result->{answered} answers\n" if $result->{answered} != $args[0];
}

# Bytes that the worker shares with others.

sub shared_bytes {
    my ($t) = @_;

    no warnings 'portable';
    my ($worker) = $t->workers;
    my $sum = 0;

    for (split /\n/, slurp("/proc/$worker/maps")) {
        my ($from, $to) = m{^(\w+)-(\w+) rw-s .* /dev/zero} or next;
        $sum += hex($to) - hex($from);
    }

    return $sum;
}

sub memory {
    my $keys = $quick ? 50_000 : 1_000_000;

    print "Memory for $keys keys that all owe something\n\n";

    my ($bytes2, $held) = nginx_memory();

    my $none = answering('', '');
    my $bytes = -shared_bytes($none);
    finish($none);

    my $t = answering("gate_limit_zone z key=\$http_x_api_key rate=1r/d "
        . "burst=1 max_keys=$keys;", 'gate_limit zone=z headers=off;');
    asked($t, $keys);
    sleep 0.1;

    my $z = status($t)->{limits}{z};
    my $full = ($z->{full_passed} || 0) + ($z->{full_limited} || 0);
    $bytes += shared_bytes($t);

    # twice was within the burst, the third time is not
    my $missed = $full;
    my $sample = 1000;
    for my $n (1 .. $sample) {
        my $key = 'key-' . int($n * $keys / $sample);
        my @s = map { $t->get('/', headers => { 'X-Api-Key' => $key })->status }
            1, 2;
        $missed++ if "@s" ne '200 429';
    }

    printf "  gate_limit: %d bytes, %.1f for each key\n", $bytes,
        $bytes / $keys;
    finish($t);

    printf "  limit_req: %d bytes, %d keys, %.1f for each key\n\n", $bytes2,
        $held, $bytes2 / $held;

    at_most("keys of $keys that were not counted", $missed, 0);
    at_most('bytes for a million keys', $bytes * 1_000_000 / $keys, BYTES);
    at_most('bytes for a key, beside limit_req\'s', $bytes / $keys,
        $bytes2 / $held);
    print "\n";
}

# How many keys limit_req's zone remembers: it is asked from the last one back
# to the first that it has forgotten.

sub nginx_memory {
    my $most = 120_000;

    my $t = answering('limit_req_zone $http_x_api_key zone=z:10m rate=1r/m;',
        'limit_req zone=z;', module => 0);
    asked($t, $most);

    my $held = 0;
    my $c = $t->conn;
    for my $n (reverse 1 .. $most) {
        my $r = $c->request('GET', '/', headers => { 'X-Api-Key' =>
            "key-$n" });
        last if $r->status != 503;
        $held++;
    }

    # what it says about each of them
    $t->allow(qr/limiting requests|could not allocate node/);
    finish($t);
    return (10 * 1024 * 1024, $held);
}


# Flood.

# Callers that have spent their budget for hours are looked at while the others
# come: each of them owes something for hours, too, so that the zone fills up
# with debtors.

sub flood {
    my $fits = 100_000;
    print "A flood of $flood keys that come once, where $fits fit\n\n";

    my $t = answering("
        map \$http_x_api_key \$tier { default 1000r/s; ~^(owes|flood) 10r/d; }
        gate_limit_zone z key=\$http_x_api_key rate=\$tier default=10r/d
            max_keys=$fits;", 'gate_limit zone=z headers=off;');

    my @keys = debtors($t, 429);
    others($t);

    my $load = ask($t, $flood, 'flood');
    my ($asked, $freed) = (0, 0);
    while ($load->running) {
        my ($n, $free) = still($t, 429, @keys[0 .. 4]);
        $asked += $n;
        $freed += $free;
        sleep 0.2;
    }
    my $answered = $load->result->{answered};
    my ($n, $free) = still($t, 429, @keys);

    my $z = status($t)->{limits}{z};
    printf "  status: %s, and %d passed uncounted\n", join(', ',
        map { "$_ $z->{keys}{$_}" } sort keys %{ $z->{keys} }),
        $z->{full_passed} || 0;
    finish($t);

    printf "  limit_req, after %d keys: %d of %d are free again\n",
        nginx_flood();

    print "\n";
    at_least('keys that came', $answered, $flood);
    at_most('of ' . ($asked + $n) . ' requests of those in debt, admitted',
        $freed + $free, 0);
    print "\n";
}

# A hundred keys that have spent what they had.

sub debtors {
    my ($t, $refused) = @_;

    my $c = $t->conn;
    my @keys = map { "owes-$_" } 1 .. 100;

    for my $key (@keys) {
        my @s = map { $c->request('GET', '/', headers => { 'X-Api-Key' => $key
            })->status } 1 .. 11;
        die "$key: @s\n" if $s[-1] != $refused;
    }

    return @keys;
}

# How many of them were asked, and how many were admitted.

sub still {
    my ($t, $refused, @keys) = @_;

    my $c = $t->conn;
    return (scalar @keys, scalar grep { $c->request('GET', '/', headers => {
        'X-Api-Key' => $_ })->status != $refused } @keys);
}

# What the others get done while new keys come, beside the same requests by one
# key that is known; by turns.  They pay soon: each takes the slot of one that
# has paid.

sub others {
    my ($t) = @_;

    my $script = $t->write_file('wrk.lua', Gate::Bench::script());
    my $rounds = $quick ? 3 : 15;
    my $from = 0;
    my (@ratio, %rate);

    # full first
    asked($t, 200_000, 'visit-first');
    wrk($t, $script, 1);

    for my $round (1 .. $rounds) {
        for my $how ($round % 2 ? qw(new known) : qw(known new)) {
            my $key = $how eq 'new' ? "visit-$round-%d" : 'somebody';
            my $load = $t->load(port => $t->port, rate => 2000, conns => 16,
                headers => { 'X-Api-Key' => $key });
            ($rate{$how}) = wrk($t, $script, 1);
            $load->stop;
        }
        push @ratio, $rate{new} / $rate{known};
    }

    at_least('what others get done, beside no flood', median(@ratio),
        FLOODED);
    at_most('requests that were not counted meanwhile',
        status($t)->{limits}{z}{full_passed}, 0);
}

sub nginx_flood {
    my $most = 200_000;

    my $t = answering('limit_req_zone $http_x_api_key zone=z:10m rate=1r/m;',
        'limit_req zone=z burst=9 nodelay;', module => 0);
    my @keys = debtors($t, 503);
    asked($t, $most, 'flood');
    my ($n, $free) = still($t, 503, @keys);

    $t->allow(qr/limiting requests|could not allocate node/);
    finish($t);
    return ($most, $free, $n);
}


# One decision.

sub table {
    my $dir = $ENV{GATE_BUILD} || root() . '/build';
    my $cc = $ENV{CC} || 'cc';
    my $root = root();

    print "One decision\n\n";
    system("$cc -std=c11 -D_GNU_SOURCE -O2 -I'$root/src' "
        . "-o '$dir/limit-table' '$root/t/bench/limit-table.c'") == 0
        or die "cannot compile limit-table.c\n";
    system("$dir/limit-table") == 0 or $failed = 1;
    print "\n";
}


# Verdicts.

sub at_most {
    my ($what, $value, $bound) = @_;
    verdict($what, $value, 'at most', $bound, $value <= $bound);
}

sub at_least {
    my ($what, $value, $bound) = @_;
    verdict($what, $value, 'at least', $bound, $value >= $bound);
}

sub verdict {
    my ($what, $value, $how, $bound, $ok) = @_;

    printf "  %-50s %8.5g, %s %.5g: %s\n", $what, $value, $how, $bound,
        $ok ? 'holds' : 'FAILS';
    $failed = 1 unless $ok;
}
