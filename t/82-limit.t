#!/usr/bin/perl

# Who is let in, and how often: one node, no Redis.  Rates are of requests an
# hour where nothing must come back during the test.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Gate::Rollout;
use Test::More;
use Time::HiRes qw(time sleep);

my $t = Gate->new;
my $g = Gate::Rollout->new($t);

my $b = $t->backend('ok', body => 'backend');
my $bp = $b->addr;

$t->write_file('html/index.html', "page\n");
$t->write_file('html/x.html', "x\n");
$t->write_file('html/ssi.html', join '', map {
    qq{<!--#include virtual="/in" -->\n} } 1 .. 3);
$t->write_file('users', "u:{PLAIN}p\n");

my %zone = (
    heads    => 'key=$http_x_key rate=10r/h',
    ten      => 'key=$arg_k rate=10r/h',
    again    => 'key=$arg_k rate=10r/h',
    two      => 'key=$arg_k rate=2r/h',
    burst    => 'key=$arg_k rate=1r/h burst=4',
    single   => 'key=$arg_k rate=100r/h burst=0',
    clock    => 'key=$arg_k rate=20r/s burst=4',
    skip     => 'key=$arg_k rate=2r/h on_empty=skip',
    all      => 'key=$arg_k rate=2r/h on_empty=limit',
    refuse   => 'key=$arg_k rate=2r/h on_empty=refuse',
    tier     => 'key=$arg_k rate=$tier default=2r/h',
    tierb    => 'key=$arg_k rate=$tier default=2r/h burst=5',
    pasted   => 'key=$arg_k rate=${arg_n}r/h default=2r/h',
    header   => 'key=$http_x_key rate=2r/h',
    real     => 'key=$remote_addr rate=2r/h',
    binary   => 'key=$binary_remote_addr rate=2r/h',
    joined   => '"key=$arg_k|$http_x_key" rate=2r/h',
    mode     => 'key=$arg_k rate=2r/h',
    admit    => 'key=$arg_k rate=1r/h max_keys=64 on_full=admit',
    full     => 'key=$arg_k rate=1r/h max_keys=64 on_full=refuse',
    status   => 'key=$arg_k rate=2r/h',
);

my $zones = join '', map { "    gate_limit_zone $_ $zone{$_};\n" }
    sort keys %zone;

# a location for each zone, that answers with a picture of 43 bytes

my $plain = join '', map { "        location = /$_ "
    . "{ gate_limit zone=$_; empty_gif; }\n" } sort keys %zone;

$t->http(workers => 2,
    access => '$request_uri $status $gate_limit_status '
        . '$gate_limit_remaining $gate_limit_key_hash', <<"EOF_CONF");
$zones
    map \$arg_tier \$tier {
        default   \$arg_tier;
        gold      "10r/h";
        silver    "rate=100r/h burst=3";
        free      unlimited;
        none      off;
        dash      "-";
        late      "1r/h burst=1";
        bad       "many";
    }

    add_header X-Limit "\$gate_limit_status" always;
    add_header X-Left "\$gate_limit_remaining" always;
    add_header X-Hash "\$gate_limit_key_hash" always;

    server {
        listen 127.0.0.1:%%PORT:http%%;
        root %%DIR%%/html;
$plain
@{[ $g->endpoints ]}
        location = /both {
            gate_limit zone=ten;
            gate_limit zone=two;
            empty_gif;
        }
        location = /both/swapped {
            gate_limit zone=two;
            gate_limit zone=ten;
            empty_gif;
        }
        location = /cost5 { gate_limit zone=ten cost=5; empty_gif; }
        location = /cost0 { gate_limit zone=ten cost=0; empty_gif; }
        location = /cost { gate_limit zone=ten cost=\$arg_c; empty_gif; }
        location = /observe {
            gate_limit zone=two observe;
            gate_limit zone=ten;
            empty_gif;
        }
        location /nested/ {
            gate_limit zone=two;
            location /nested/in/ { empty_gif; }
            location /nested/off/ { gate_limit off; empty_gif; }
            location /nested/own/ { gate_limit zone=again; empty_gif; }
            location = /nested/status { gate_status; }
            location = /nested/limited { gate_limit zone=two; gate_status; }
        }

        location /any/ {
            satisfy any;
            gate_limit zone=two;
            deny all;
            auth_basic closed;
            auth_basic_user_file %%DIR%%/users;
            empty_gif;
        }
        location /any403/ {
            satisfy any;
            gate_limit zone=two status=403;
            allow all;
            empty_gif;
        }
        location /any401/ {
            satisfy any;
            gate_limit zone=two status=401;
            allow all;
            empty_gif;
        }

        location = /left { gate_limit zone=heads cost=0; empty_gif; }
        location /auth/ {
            gate_limit zone=heads;
            auth_request /in;
            empty_gif;
        }
        location = /in { gate_limit zone=heads; proxy_pass http://$bp; }
        location /mirror/ {
            gate_limit zone=heads;
            mirror /in;
            mirror /in;
            alias %%DIR%%/html/;
        }
        location /ssi/ {
            gate_limit zone=heads;
            ssi on;
            alias %%DIR%%/html/;
        }
        location /try/ {
            gate_limit zone=heads;
            try_files /no /no2 \@named;
        }
        location \@named { gate_limit zone=heads; empty_gif; }
        location /try2/ { try_files /no \@named; }
        location /index/ {
            gate_limit zone=heads;
            alias %%DIR%%/html/;
        }
        location = /index/index.html {
            gate_limit zone=heads;
            alias %%DIR%%/html/index.html;
        }
        location /failed/ {
            gate_limit zone=heads;
            error_page 404 /page;
            alias %%DIR%%/html/none/;
        }
        location = /page { gate_limit zone=heads; empty_gif; }
        location /accel/ {
            gate_limit zone=heads;
            proxy_pass http://$bp/accel/;
        }

        location /realip/ {
            set_real_ip_from 127.0.0.1;
            real_ip_header X-From;
            gate_limit zone=real;
            empty_gif;
        }
    }

    server {
        listen 127.0.0.1:%%PORT:whole%%;
        gate_limit zone=again;
        location / { empty_gif; }
        location /elsewhere { proxy_pass http://$bp; }
        location = /status { gate_status; }
        location = /health { gate_health; }
    }
EOF_CONF

$b->on('/accel/', status => 200, body => '',
    headers => [['X-Accel-Redirect' => '/in']]);

$t->start;

# the statuses of that many requests, as "200x3 429x2" in order

sub ask {
    my ($n, $uri, @opt) = @_;
    my @seen;

    for (1 .. $n) {
        my $s = $t->get($uri, @opt)->status;
        if (@seen && $seen[-1][0] eq $s) { $seen[-1][1]++ }
        else { push @seen, [$s, 1] }
    }

    return join ' ', map { "$_->[0]x$_->[1]" } @seen;
}

sub left { return $t->get("/cost0?k=$_[0]")->header('X-Left') }

my $key = 'a000';
sub fresh { return $key++ }

# how many

is(ask(13, '/ten?k=a'), '200x10 429x3',
    'a rate of ten an hour is ten at once, and no more');
is(ask(11, '/ten?k=b'), '200x10 429x1', 'another key has its own');
is(ask(1, '/ten?k=a'), '429x1', 'the first one still has none');
is(ask(12, '/again?k=a'), '200x10 429x2', 'in another zone it has');
is(ask(7, '/burst?k=a'), '200x5 429x2', 'burst=4 is five at once');
is(ask(3, '/single?k=a'), '200x1 429x2', 'burst=0 is one');

{
    my ($ok, $first, $last, $began) = (0, undef, undef, time);

    while (time - $began < 1.5) {
        my $sent = time;
        next if $t->get('/clock?k=a')->status != 200;
        $ok++;
        $first //= $sent;
        $last = time;
    }

    my $spent = $last - $first;
    cmp_ok($ok, '<=', 5 + 20 * $spent + 1, 'a rate is not exceeded');
    cmp_ok($ok, '>=', 5 + 20 * $spent * 0.5 - 1, 'and can be used');
}

# cost

{
    my $k = fresh();
    is(ask(3, "/cost5?k=$k"), '200x2 429x1', 'cost=5 of ten, twice');
    is(left($k), 0, 'none is left');
    is(ask(3, "/cost0?k=$k"), '200x3', 'a cost of 0 asks, and is let in');
    is($t->get("/cost0?k=$k")->header('X-Limit'), 'passed', 'as passed');
}
{
    my $k = fresh();
    is(ask(2, "/cost?k=$k&c=7"), '200x1 429x1', 'a cost by request');
    is(left($k), 3, 'who is refused pays nothing');
    is(ask(1, "/cost?k=$k&c=3"), '200x1', 'what is left can be spent');
    is(left($k), 0, 'to the last');
}
{
    my $k = fresh();
    my $at = $t->log_size;
    is(ask(1, "/cost?k=$k&c=$_"), '200x1', "a cost of \"$_\" lets in")
        for '', 'x', '-1', '1.5', '2x', '0x3';
    is(left($k), 4, 'and counts as one');
    my @said = $t->log_from($at) =~ /the value of "cost=" is no number/g;
    cmp_ok(scalar @said, '>=', 1, 'it is said');
    cmp_ok(scalar @said, '<=', 2, 'once by each worker');

    for my $c ('11', '99999999999999999999999999', '18446744073709551617') {
        my $r = $t->get("/cost?k=$k&c=$c");
        is($r->status, 429, "a cost of $c is more than there ever is");
        is($r->header('Retry-After'), undef, 'waiting does not help');
    }

    is(left($k), 4, 'and costs nothing');
}

# several

{
    my $k = fresh();
    is(ask(5, "/both?k=$k"), '200x2 429x3', 'two limits: the lower counts');
    is(left($k), 8, 'and the other is not charged for refused ones');
    is(ask(9, "/ten?k=$k"), '200x8 429x1', 'it can be spent elsewhere');

    $k = fresh();
    is(ask(5, "/both/swapped?k=$k"), '200x2 429x3', 'in the other order too');
    is(left($k), 8, 'the other is not charged');

    $k = fresh();
    ask(10, "/ten?k=$k");
    is(ask(2, "/both/swapped?k=$k"), '429x2', 'where the second one refuses');
    is(ask(3, "/two?k=$k"), '200x2 429x1', 'the first is not charged');
}

# observe

{
    my $k = fresh();
    is(ask(12, "/observe?k=$k"), '200x10 429x2',
        'a limit that is observed refuses nobody, the other does');
    is(ask(1, "/two?k=$k"), '429x1', 'it has been counted all the same');

    $k = fresh();
    my @said = map { $t->get("/observe?k=$k")->header('X-Limit') } 1 .. 11;
    is("@said", join(' ', ('passed') x 2, ('observed') x 8, 'limited'),
        '$gate_limit_status');
}

# inheritance

{
    my $k = fresh();
    is(ask(3, "/nested/in/?k=$k"), '200x2 429x1', 'a limit is inherited');
    is(ask(3, "/nested/off/?k=$k"), '200x3', '"off" ends it');
    is(ask(12, "/nested/own/?k=$k"), '200x10 429x2', 'another replaces it');
    is(ask(3, "/nested/status?k=$k"), '200x3', 'our endpoints inherit none');
    is(ask(1, "/nested/limited?k=$k"), '429x1', 'but may have one');

    $k = fresh();
    is(ask(12, "/?k=$k", port => 'whole'), '200x10 429x2', 'of a server');
    is(ask(1, "/again?k=$k"), '429x1', 'a zone is one for all servers');
    is(ask(2, '/elsewhere/' . fresh(), port => 'whole'), '200x2',
        'without a key there is no limit');
    is(ask(2, "/status?k=$k", port => 'whole'), '200x2', 'status is exempt');
    is(ask(2, "/health?k=$k", port => 'whole'), '200x2', 'health is exempt');
}

# an empty key

is(ask(4, '/skip'), '200x4', 'without a key: not limited');
is($t->get('/skip?k=')->header('X-Limit'), 'unlimited', 'an empty one too');
is($t->get('/skip?k=')->header('X-Hash'), undef, 'there is no key');
is(ask(4, '/all'), '200x2 429x2', 'on_empty=limit: all share one budget');
is(ask(2, '/all?k=a'), '200x2', 'others have their own');
is(ask(2, '/refuse'), '429x2', 'on_empty=refuse: always');
is($t->get('/refuse')->header('Retry-After'), undef, 'waiting does not help');
is(ask(3, '/refuse?k=a'), '200x2 429x1', 'with a key as usual');

# tiers

for (
    ['gold', '200x10 429x2', 'a rate of a map'],
    ['silver', '200x4 429x8', 'with a burst'],
    ['', '200x2 429x10', 'an empty one: the default'],
    ['dash', '200x2 429x10', 'a dash: the default'],
    ['free', '200x12', '"unlimited"'],
    ['none', '200x12', '"off"'],
    ['bad', '200x2 429x10', 'what is no rate: the default'],
    ['1r/s%20burst=x', '200x2 429x10', 'nor a burst'],
    ['0r/s', '200x2 429x10', 'a rate of zero: the default'],
    ['x' x 500, '200x2 429x10', 'something long: the default'],
) {
    my ($tier, $want, $name) = @$_;
    is(ask(12, "/tier?k=" . fresh() . "&tier=$tier"), $want, "tier: $name");
}

{
    my @wrong;

    for my $rate ((11 .. 50) x 2) {
        my $r = $t->get('/tier?k=' . fresh() . "&tier=${rate}r/h");
        push @wrong, $rate if $r->header('X-Left') != $rate - 1;
    }

    is("@wrong", '', 'forty tiers at once, each with its own rate');
}

like(Gate::slurp($t->dir . '/error.log'),
    qr/limit zone "tier": the value of "rate=" .*"default=" counts instead/,
    'the log says that there is something wrong');

is($t->get('/tier?k=a&tier=free')->header('X-Limit'), 'unlimited',
    'the status of a tier without a limit');

is(ask(8, '/tierb?k=' . fresh() . '&tier=gold'), '200x6 429x2',
    'burst= of the zone is for rates that say none');
is(ask(8, '/tierb?k=' . fresh() . '&tier=silver'), '200x4 429x4',
    'one that is said counts');
is(ask(8, '/tierb?k=' . fresh()), '200x6 429x2', 'and for the default');
is(ask(8, '/pasted?k=' . fresh() . '&n=5'), '200x5 429x3',
    'a rate with a variable in it');

{
    my $k = fresh();
    is(ask(5, "/tier?k=$k&tier=gold"), '200x5', 'half of ten in one tier');
    is(ask(2, "/tier?k=$k&tier=late"), '429x2',
        'is more than all of a lower one');
    my $r = $t->get("/tier?k=$k&tier=gold");
    is($r->header('X-Left'), 4, 'who is refused there owes the same here');
}

# the key

for my $h ('X-Key', 'x-key', 'X-KEY') {
    my $k = 'header ' . fresh();
    is(ask(3, '/header', headers => [$h => $k]), '200x2 429x1',
        "a key in the header $h");
    is(ask(1, '/header', headers => ['X-Key' => $k]), '429x1', 'is the same');
}

{
    my $long = 'x' x 6000;
    my %h = (headers => ['X-Key' => $long]);
    is(ask(3, '/header', %h), '200x2 429x1', 'a key of 6000 bytes');
    is(ask(1, '/header', headers => ['X-Key' => $long . 'y']), '200x1',
        'one more is another key');

    my $bytes = join '', map { chr } 128 .. 255, 1 .. 8, 14 .. 31;
    is(ask(3, '/header', headers => ['X-Key' => "k${bytes}k"]),
        '200x2 429x1', 'a key of bytes');
    is(ask(3, '/binary'), '200x2 429x1', 'an address in binary form');
    is(ask(3, '/joined?k=a', headers => ['X-Key' => 'b']), '200x2 429x1',
        'a key of two values');
    is(ask(3, '/joined?k=b', headers => ['X-Key' => 'a']), '200x2 429x1',
        'the other way round is another');
}

is(ask(3, '/realip/', headers => ['X-From' => '192.0.2.1']), '200x2 429x1',
    'the address that set_real_ip_from of the location gives');
is(ask(3, '/realip/', headers => ['X-From' => '192.0.2.2']), '200x2 429x1',
    'is the key');
is(ask(3, '/real'), '200x2 429x1', 'and not that of the connection');

{
    my ($k, $l) = (fresh(), fresh());
    my $hash = $t->get("/ten?k=$k")->header('X-Hash');
    like($hash, qr/^[0-9a-f]{16}$/, '$gate_limit_key_hash');
    is($t->get("/two?k=$k")->header('X-Hash'), $hash, 'in all zones');
    isnt($t->get("/ten?k=$l")->header('X-Hash'), $hash, 'of that key only');
}

# who says no

is(ask(4, '/any/?k=' . fresh()), '401x2 429x2',
    'satisfy any: a limit with budget left lets nobody in');
is(ask(4, '/any403/?k=' . fresh()), '200x2 403x2',
    'and one that refuses with 403 is not overruled');
is(ask(4, '/any401/?k=' . fresh()), '200x2 401x2', 'nor with 401');

# once for each request

for (
    ['/auth/', 'auth_request', 1],
    ['/mirror/x.html', 'mirrors', 2],
    ['/ssi/ssi.html', 'SSI', 3],
    ['/try/', 'try_files and a named location'],
    ['/try2/', 'a limit only behind try_files'],
    ['/index/', 'an index'],
    ['/accel/', 'X-Accel-Redirect', 2],
) {
    my ($uri, $what) = @$_;
    my @h = (headers => ['X-Key' => fresh()]);
    my $before = $b->requests;
    is($t->get($uri, @h)->status, 200, "$what: works");
    wait_for { $b->requests >= $before + $_->[2] } what => 'all requests'
        if $_->[2];
    is($t->get('/left', @h)->header('X-Left'), 9, "$what: counts once");
}

{
    my @h = (headers => ['X-Key' => fresh()]);
    my $before = $g->status->{limits}{heads}{passed};
    is($t->get('/failed/', @h)->status, 404, 'error_page: works');
    is($g->status->{limits}{heads}{passed} - $before, 1,
        'error_page: counts once in the status');
    is($t->get('/left', @h)->header('X-Left'), 9, 'and against the key');
}

# full: who comes is never more than that at once

for my $zone ('admit', 'full') {
    my %seen;
    $seen{ $t->get("/$zone?k=" . fresh())->status }++ for 1 .. 400;

    cmp_ok($seen{200}, '>=', 64, "max_keys=64 has room for 64 ($zone)");
    is($seen{200}, 400, 'on_full=admit: all others are let in')
        if $zone eq 'admit';
    cmp_ok($seen{429} // 0, '>', 200, 'on_full=refuse: they are not')
        if $zone eq 'full';
}

is(ask(1, '/full?k=' . fresh()), '429x1', 'who is new is refused');
like($t->get('/full?k=' . fresh())->header('Retry-After') // '', qr/^1$/,
    'and may try again');

# modes

{
    my $k = fresh();
    $g->api('modes/limit', { mode => 'observe' });
    is(ask(4, "/mode?k=$k"), '200x4', 'mode observe: nobody is refused');
    is($t->get("/mode?k=$k")->header('X-Limit'), 'observed', 'it is seen');

    $g->api('modes/limit', { mode => 'off' });
    my $l = fresh();
    is(ask(4, "/mode?k=$l"), '200x4', 'mode off: nobody is');
    is($t->get("/mode?k=$l")->header('X-Limit'), 'unlimited', 'it is said');
    is(ask(3, '/refuse'), '200x3', 'not even without a key');

    $g->api('modes/limit', { mode => 'enforce' });
    is(ask(1, "/mode?k=$k"), '429x1', 'what was observed was counted');
    is(ask(3, "/mode?k=$l"), '200x2 429x1', 'what was off was not');
}

# variables in the log

{
    my $k = fresh();
    ask(3, "/status?k=$k");
    my @log = map { [split] } grep { /\?k=$k / }
        split /\n/, Gate::slurp($t->dir . '/access.log');

    is(join(' ', map { @$_[1 .. 3] } @log),
        '200 passed 1 200 passed 0 429 limited 0', 'in the access log');
}

# what is written down

my $log = Gate::slurp($t->dir . '/error.log');
my @lines = $log =~ /gate: limiting, zone "\w+", key ([0-9a-f]{16}), /g;

cmp_ok(scalar @lines, '>', 0, 'the log says that somebody is limited');
cmp_ok(scalar @lines, '<', 100, 'but not each time');

# nginx itself adds the request line, which has the keys of this test in it

my @said = $log =~ /\[warn\].*?(gate: .*?), client: /g;
cmp_ok(scalar @said, '>=', scalar @lines, 'what we say ends there');
is(scalar(grep { /x{100}/ } @said), 0, 'and never names the key');

$t->done;
done_testing;
