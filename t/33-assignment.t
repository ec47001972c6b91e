#!/usr/bin/perl

# Which arm serves a caller: gate_force, gate_key, gate_sticky, the dice.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA ();
use Gate;
use MIME::Base64 ();
use Test::More;

my $t = Gate->new;

my $stable = $t->backend('ok', body => 'stable');
my $canary = $t->backend('ok', body => 'canary');

my ($crt, $crt_key) = $t->cert;
my $tls = eval { require IO::Socket::SSL; 1 };

my @secret = map { $_ x 40 } qw(a b c);

sub key_file {
    my ($name, @keys) = @_;
    my $path = $t->write_file($name, join '', map { "$_\n" } @keys);
    chmod 0600, $path;
    return $path;
}

my $token = key_file('api.token', 'tester ' . 't' x 32);

my @weights = ('0', '0.01', '10', '50', '99.99', '100');
my $name = sub { my $w = shift; $w =~ tr/./_/; return "w$w" };

sub start_or_reload {
    my (%opt) = @_;

    my $key = key_file('sticky.key', @{ $opt{keys} || [$secret[0]] });
    my $id = $opt{id} || 'one';

    my $dice = join '', map { my $n = $name->($_); <<"EOF" } @weights;
    upstream $n { gate_canary s c weight=$_%; }
EOF
    my $where = join '', map { my $n = $name->($_); <<"EOF" } @weights;
        location = /$n { return 200 \$gate_arm_$n; }
EOF

    $t->http(workers => 2, <<"EOF");
    # room for a thousand small requests that come at once, see pipelined()
    keepalive_requests 100000;
    client_header_buffer_size 128k;

    upstream s { server @{[ $stable->addr ]}; }
    upstream c { server @{[ $canary->addr ]}; }

    upstream keyed { gate_canary s c weight=10% id=$id; gate_key \$arg_k; }
    upstream other { gate_canary s c weight=10% id=$id; gate_key \$arg_k; }
    upstream half { gate_canary s c weight=50%; gate_key \$arg_k; }

    upstream forced {
        gate_canary s c weight=50%;
        gate_key \$arg_k;
        gate_force \$arg_first \$http_x_second;
    }
    upstream forced0 { gate_canary s c weight=0%; gate_force \$arg_f; }
    upstream forced100 { gate_canary s c weight=100%; gate_force \$arg_f; }

    upstream sticky {
        gate_canary s c weight=50%;
        gate_sticky cookie=arm key_file=$key max_age=1h;
    }
    upstream sticky2 {
        gate_canary s c weight=50%;
        gate_sticky cookie=arm key_file=$key path=/shop
                    domain=example.org secure;
    }
    upstream both {
        gate_canary s c weight=50%;
        gate_key \$arg_k;
        gate_force \$arg_f;
        gate_sticky cookie=arm key_file=$key;
    }

$dice

    server {
        listen 127.0.0.1:%%PORT:http%%;
        listen 127.0.0.1:%%PORT:https%% ssl;
        ssl_certificate $crt;
        ssl_certificate_key $crt_key;

        # the choice itself: a variable asks as the balancer does
        location = /arm/keyed { return 200 \$gate_arm_keyed; }
        location = /arm/other { return 200 \$gate_arm_other; }
        location = /arm/half { return 200 \$gate_arm_half; }
        location = /arm/forced { return 200 \$gate_arm_forced; }
        location = /arm/forced0 { return 200 \$gate_arm_forced0; }
        location = /arm/forced100 { return 200 \$gate_arm_forced100; }

$where

        location /keyed { proxy_pass http://keyed; }
        location /sticky { proxy_pass http://sticky; }
        location /sticky2 { proxy_pass http://sticky2; }
        location /both { proxy_pass http://both; }
        location /gate/api/ { gate_api token_file=$token; }
        location /status { gate_status; }
    }
EOF

    return $t->pid ? $t->reload : $t->start;
}

start_or_reload();

sub api {
    my ($path, $body) = @_;
    my $r = $t->post("/gate/api/canary/$path", body => $body || '{}',
        headers => { Authorization => 'Bearer ' . 't' x 32,
            'Content-Type' => 'application/json' });
    is($r->status, 200, "POST $path " . ($body || ''))
        or diag($r->as_text);
    return;
}

sub rollout { return $t->get('/status')->json->{rollouts}{ $_[0] } }

# Asks for many URIs over one connection, a thousand at a time.

sub pipelined {
    my (@uris) = @_;

    my @bodies;
    while (my @batch = splice @uris, 0, 1000) {
        my $last = pop @batch;
        my $bytes = join '', (map { "GET $_ HTTP/1.1\r\nHost: x\r\n\r\n" }
            @batch), "GET $last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

        my $answer = $t->raw($bytes, timeout => 30);
        my @got = $answer =~ /\r\n\r\n(stable|canary)/g;
        die 'only ' . @got . " answers\n" if @got != @batch + 1;
        push @bodies, @got;
    }
    return @bodies;
}

# the callers of the canary, as one string

my @callers = 1 .. 10_000;

sub canary_set {
    my ($composite, @keys) = @_;
    my @arms = pipelined(map { "/arm/$composite?k=caller-$_" } @keys);
    return { map { $arms[$_] eq 'canary' ? ($keys[$_] => 1) : () } 0 .. $#keys };
}

sub missing { my ($in, $from) = @_; return scalar grep { !$from->{$_} } keys %$in }

my ($first, $second);

subtest 'gate_key: the share' => sub {
    my $n;

    # these are the bounds of 99.9 % of all draws: chance has a second one
    for my $try (1, 2) {
        api('keyed/start') if $try == 2;
        $first = canary_set('keyed', @callers);
        $n = keys %$first;
        last if $n >= 896 && $n <= 1104;
        diag("$n of 10,000");
    }

    cmp_ok($n, '>=', 896, "$n of 10,000 callers at 10 %: enough");
    cmp_ok($n, '<=', 1104, 'not too many');
};

subtest 'gate_key: the same caller, the same arm' => sub {
    my @sample = (1 .. 1000);
    my %was = map { $first->{$_} ? ($_ => 1) : () } @sample;

    is_deeply(canary_set('keyed', @sample), \%was, 'again')
        for 1 .. 2;

    my ($in) = sort keys %$first;
    my ($out) = grep { !$first->{$_} } @sample;
    is($t->get("/keyed?k=caller-$in")->body, 'canary', 'the balancer agrees');
    is($t->get("/keyed?k=caller-$out")->body, 'stable', 'on both arms');

    start_or_reload();
    is_deeply(canary_set('keyed', @sample), \%was, 'after a reload');
};

subtest 'gate_key: the weight moves and comes back' => sub {
    api('keyed/weight', '{"weight":"20%"}');
    $second = canary_set('keyed', @callers);

    my $n = keys %$second;
    cmp_ok($n, '>=', 1800, "$n of 10,000 callers at 20 %: enough");
    cmp_ok($n, '<=', 2200, 'not too many');
    is(missing($first, $second), 0, 'nobody left the canary');

    api('keyed/weight', '{"weight":"10%"}');
    is_deeply(canary_set('keyed', @callers), $first,
        'back at 10 %: exactly the first ones');
};

subtest 'gate_key: other rollouts draw others' => sub {
    my @sample = (1 .. 2000);

    my %was = map { $first->{$_} ? ($_ => 1) : () } @sample;
    my $n = keys %was;

    # two independent draws share a tenth of them
    my $other = canary_set('other', @sample);
    cmp_ok(missing(\%was, $other), '>', $n / 2, 'another composite');
    cmp_ok(keys %$other, '>', 0, 'has callers, too');

    start_or_reload(id => 'two');
    my $next = canary_set('keyed', @sample);
    cmp_ok(missing(\%was, $next), '>', $n / 2, 'another id');
    is(rollout('keyed')->{weight}, 10, 'at the configured weight');
};

sub arms {
    my ($n, $uri) = @_;
    my %n = (stable => 0, canary => 0);
    $n{$_}++ for pipelined(($uri) x $n);
    return \%n;
}

subtest 'gate_key: an empty key falls to the dice' => sub {
    is_deeply([sort { $a <=> $b } values %{ arms(50, '/arm/half?k=x') }],
        [0, 50], 'a key stays where it is');
    my $n = arms(400, '/arm/half?k=');
    cmp_ok($n->{$_}, '>', 100, "an empty one does not: $n->{$_} $_")
        for qw(stable canary);
    $n = arms(400, '/arm/half');
    cmp_ok($n->{$_}, '>', 100, "nor does a missing one: $n->{$_} $_")
        for qw(stable canary);
};

subtest 'the dice' => sub {
    is_deeply(arms(1000, '/w0'), { stable => 1000, canary => 0 }, '0 %');
    is_deeply(arms(1000, '/w100'), { stable => 0, canary => 1000 }, '100 %');

    # more than 20 have a chance of 1e-9
    cmp_ok(arms(10_000, '/w0_01')->{canary}, '<', 20, '0.01 %');
    cmp_ok(arms(10_000, '/w99_99')->{stable}, '<', 20, '99.99 %');

    my $n = arms(10_000, '/w10')->{canary};
    cmp_ok($n, '>', 800, "10 %: $n of 10,000");
    cmp_ok($n, '<', 1200, '10 %');
};

# gate_force

sub force {
    my ($first, $second, @more) = @_;
    return join ' ', sort keys %{ { map { $_ => 1 }
        map { $t->get("/arm/forced?k=$_" . ($first ne '' ? "&first=$first" : ''),
            headers => { $second ne '' ? ('X-Second' => $second) : () })->body }
        1 .. 30 } };
}

subtest 'gate_force' => sub {
    for (
        ['always', '', 'canary'], ['never', '', 'stable'],
        ['', 'always', 'canary'], ['', 'never', 'stable'],
        ['never', 'always', 'stable'], ['always', 'never', 'canary'],
        ['1', 'always', 'canary'], ['maybe', 'never', 'stable'],
        ['ALWAYS', '', 'canary'], ['Never', '', 'stable'],
        ['', '', 'canary stable'], ['yes', 'no', 'canary stable'],
        ['alwaysx', 'neve', 'canary stable'],
    ) {
        my ($first, $second, $want) = @$_;
        is(force($first, $second), $want, "'$first' '$second': $want");
    }

    is($t->get('/arm/forced0')->body, 'stable', 'at 0 %: stable');
    is($t->get('/arm/forced0?f=always')->body, 'canary', 'unless forced');
    is($t->get('/arm/forced100')->body, 'canary', 'at 100 %: canary');
    is($t->get('/arm/forced100?f=never')->body, 'stable', 'unless forced');

    api('forced100/abort', '{"reason":"test"}');
    is($t->get('/arm/forced100')->body, 'stable', 'rolled back: stable');
    is($t->get('/arm/forced100?f=always')->body, 'canary',
        'but an operator can still look at it');
};

# gate_sticky

sub cookie {
    my ($name, $epoch, $bucket, $key) = @_;

    my $text = sprintf '%x.%d', $epoch, $bucket;
    my $mac = substr Digest::SHA::hmac_sha256(
        "nginx-gate sticky v1\0$name\0$text", $key), 0, 16;
    ($mac = MIME::Base64::encode_base64($mac, '')) =~ tr{+/=}{-_}d;
    return "1.$text.$mac";
}

# (arm, the cookie that is set, all of its field)

sub sticky {
    my ($cookie, %opt) = @_;
    my $r = $t->get($opt{uri} || '/sticky', %{ $opt{request} || {} },
        headers => { defined $cookie ? (Cookie => $cookie) : () });
    my @set = $r->header_all('set-cookie');
    die "two cookies\n" if @set > 1;
    my ($value) = ($set[0] || '') =~ /^arm=([^;]+)/;
    return ($r->body, $value, $set[0]);
}

my $epoch = rollout('sticky')->{epoch};

subtest 'gate_sticky: a cookie is set once and honoured' => sub {
    my %seen;

    for (1 .. 60) {
        my ($arm, $value, $field) = sticky();
        is($field, "arm=$value; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax",
            'its attributes') if !%seen;

        # 0..4999 are those of the canary at 50 %
        my ($e, $bucket) = $value =~ /^1\.([0-9a-f]+)\.(\d+)\./;
        is(hex $e, $epoch, 'it has the epoch') if !%seen;
        is($value, cookie('sticky', $epoch, $bucket, $secret[0]),
            'and a signature') if !%seen;

        ok(0, "bucket $bucket is not $arm")
            if ($bucket < 5000 ? 'canary' : 'stable') ne $arm;
        $seen{$arm} = $value;
    }
    is(keys %seen, 2, 'some callers go here, some there');

    for my $arm (sort keys %seen) {
        is_deeply([sticky("arm=$seen{$arm}")], [$arm, undef, undef],
            "$arm stays $arm, without another cookie") for 1 .. 5;
        is_deeply([sticky("a=b; arm=$seen{$arm}; c=d")], [$arm, undef, undef],
            'among others');
    }
};

my $in = cookie('sticky', $epoch, 0, $secret[0]);
my $out = cookie('sticky', $epoch, 9999, $secret[0]);

subtest 'gate_sticky: cookies that are not ours' => sub {
    my %bad = (
        'a changed bucket' => $out =~ s/9999/9998/r,
        'a changed signature' => substr($in, 0, -2) . 'AA',
        'another key' => cookie('sticky', $epoch, 0, $secret[1]),
        'another composite' => cookie('both', $epoch, 0, $secret[0]),
        'an old epoch' => cookie('sticky', $epoch - 1, 0, $secret[0]),
        'an impossible bucket' => cookie('sticky', $epoch, 10_000, $secret[0]),
        'nothing' => '', 'nonsense' => 'x' x 100, 'quoted' => qq("$in"),
        'another form' => "2$in",
    );

    for my $what (sort keys %bad) {
        my %arms;
        for (1 .. 25) {
            my ($arm, $value) = sticky("arm=$bad{$what}");
            like($value, qr/^1\./, "$what: replaced") if !%arms;
            $arms{$arm}++;
        }
        is(keys %arms, 2, "$what: not obeyed");
    }

    my ($arm, $value) = sticky("Arm=$in; armx=$in; xarm=$in");
    like($value, qr/^1\./, 'names are exact');
};

subtest 'gate_sticky: a cookie of a newer epoch' => sub {
    my $newer = cookie('sticky', $epoch + 1, 0, $secret[0]);
    is_deeply([sticky("arm=$newer")], ['stable', undef, undef],
        'goes to stable and is left alone') for 1 .. 10;

    is_deeply([sticky("arm=$newer; arm=$in")], ['canary', undef, undef],
        'unless there is one of this epoch beside it');
};

subtest 'gate_sticky: several cookies of the name' => sub {
    my $old = cookie('sticky', $epoch - 5, 9999, $secret[0]);

    is_deeply([sticky("arm=$old; arm=$in")], ['canary', undef, undef],
        'an old one, of another path say, does not hide the good one')
        for 1 .. 5;
    is_deeply([sticky("arm=x; arm=y; z=1; arm=$out")],
        ['stable', undef, undef], 'nor does a forged one') for 1 .. 5;

    my $answer = $t->raw("GET /sticky HTTP/1.1\r\nHost: x\r\nConnection: close"
        . "\r\nCookie: arm=$old\r\nCookie: arm=$in\r\n\r\n");
    like($answer, qr/\r\n\r\ncanary$/, 'nor one in a field of its own');
};

subtest 'gate_sticky: attributes' => sub {
    my (undef, $value, $field) = sticky(undef, uri => '/sticky2');
    is($field, "arm=$value; Path=/shop; Domain=example.org; Secure; HttpOnly;"
        . ' SameSite=Lax', 'path, domain, secure, no age');

  SKIP: {
        skip('no IO::Socket::SSL', 1) if !$tls;
        (undef, $value, $field) = sticky(undef,
            request => { port => 'https', tls => 1 });
        is($field, "arm=$value; Path=/; Max-Age=3600; Secure; HttpOnly;"
            . ' SameSite=Lax', 'Secure over TLS');
    }
};

subtest 'gate_key and gate_force come first' => sub {
    my $e = rollout('both')->{epoch};
    my %c = (canary => cookie('both', $e, 0, $secret[0]),
        stable => cookie('both', $e, 9999, $secret[0]));

    for my $arm (sort keys %c) {
        is((sticky("arm=$c{$arm}", uri => '/both'))[0], $arm,
            "without a key the cookie counts: $arm");

        my %arms = map { (sticky("arm=$c{$arm}", uri => "/both?k=$_"))[0] => 1 }
            1 .. 30;
        is(keys %arms, 2, 'with a key it does not');
    }

    is_deeply([sticky(undef, uri => '/both?k=1')], [$_, undef, undef],
        'a caller with a key gets no cookie')
        for (sticky(undef, uri => '/both?k=1'))[0];
    is_deeply([sticky("arm=$c{stable}", uri => '/both?f=always')],
        ['canary', undef, undef], 'a forced one neither obeys nor gets one');
    is_deeply([sticky(undef, uri => '/both?f=never')],
        ['stable', undef, undef], 'in neither direction');
};

subtest 'gate_sticky: the weight' => sub {
    my $mid = cookie('sticky', $epoch, 5000, $secret[0]);
    is((sticky("arm=$mid"))[0], 'stable', 'bucket 5000 at 50 %: stable');

    api('sticky/weight', '{"weight":"50.01%"}');
    is((sticky("arm=$mid"))[0], 'canary', 'at 50.01 %: canary');
    is((sticky("arm=$in"))[0], 'canary', 'as those before it');

    for ([0, 'stable'], [100, 'canary']) {
        my ($weight, $arm) = @$_;
        api('sticky/weight', qq({"weight":$weight}));
        is_deeply([sticky(undef)], [$arm, undef, undef],
            "at $weight % everybody is on $arm, and nobody gets a cookie");
        is_deeply([sticky("arm=$_")], [$arm, undef, undef], 'or had one')
            for $in, $out;
    }

    api('sticky/weight', '{"weight":"50%"}');
    is((sticky("arm=$in"))[0], 'canary', 'at 50 % as it was');
    is((sticky("arm=$mid"))[0], 'stable', 'exactly');
};

subtest 'gate_sticky: an abort evicts everybody, a new epoch draws anew' => sub {
    api('sticky/abort', '{"reason":"test"}');
    is_deeply([sticky("arm=$in")], ['stable', undef, undef], 'an abort');

    api('sticky/retry');
    my $next = rollout('sticky')->{epoch};
    cmp_ok($next, '>', $epoch, 'a retry is a new epoch');

    my %arms;
    for (1 .. 25) {
        my ($arm, $value) = sticky("arm=$in");
        my ($e) = ($value || '') =~ /^1\.([0-9a-f]+)\./;
        is(hex($e || 0), $next, 'the cookie is replaced') if !%arms;
        $arms{$arm}++;
    }
    is(keys %arms, 2, 'and draws again');

    $epoch = $next;
};

subtest 'gate_sticky: keys are rotated' => sub {
    my @c = map { cookie('sticky', $epoch, 0, $_) } @secret;

    start_or_reload(id => 'two', keys => [@secret[1, 0]]);
    is_deeply([sticky("arm=$c[$_]")], ['canary', undef, undef],
        'the ' . ('old', 'new')[$_] . ' key is good') for 0, 1;

    my ($arm, $value) = sticky();
    my ($bucket) = $value =~ /^1\.[0-9a-f]+\.(\d+)\./;
    is($value, cookie('sticky', $epoch, $bucket, $secret[1]),
        'the new one signs');

    start_or_reload(id => 'two', keys => [@secret[2, 1]]);
    is_deeply([sticky("arm=$c[$_]")], ['canary', undef, undef],
        'key ' . ($_ + 1) . ' of 3 is good') for 1, 2;
    isnt((sticky("arm=$c[0]"))[1], undef, 'the first one is over');
};

$t->done;
done_testing;
