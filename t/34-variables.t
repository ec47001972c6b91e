#!/usr/bin/perl

# $gate_arm, $gate_arm_NAME, $gate_arm_served, $gate_rollout_state,
# $gate_weight: whoever asks, and whenever, sees the same choice.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Test::More;

my $t = Gate->new;

my $s = $t->backend('echo', name => 'stable');
my $c = $t->backend('echo', name => 'canary');
my $main = $t->backend('ok', body => 'main');

my $token = $t->write_file('api.token', 't' x 32 . "\n");
chmod 0600, $token;

my $format = '$uri|$gate_arm|$gate_arm_shop|$gate_arm_cart_2|$gate_arm_served'
    . '|$gate_rollout_state|$gate_weight';

$t->http(workers => 1, access => $format, <<"EOF");
    proxy_next_upstream error timeout http_500;
    proxy_cache_path %%DIR%%/cache keys_zone=cache:1m;

    upstream s { server @{[ $s->addr ]}; }
    upstream c { server @{[ $c->addr ]}; }
    upstream shop { gate_canary s c weight=50%; gate_force \$arg_shop; }
    upstream Cart-2 { gate_canary s c weight=12.5%; gate_force \$arg_cart; }

    map \$gate_arm_shop \$mapped { default none; ~(.+) "map:\$1"; }

    server {
        listen 127.0.0.1:%%PORT:http%%;

        # asked before the balancer is, by it, and after it
        add_header X-Before \$early always;
        add_header X-Arm \$gate_arm always;
        add_header X-Shop \$gate_arm_shop always;
        add_header X-Cart \$gate_arm_cart_2 always;
        add_header X-Served \$gate_arm_served always;
        add_header X-State \$gate_rollout_state always;
        add_header X-Weight \$gate_weight always;
        add_header X-Map \$mapped always;
        add_header X-Cache \$upstream_cache_status;

        set \$early '';

        location /shop {
            set \$early \$gate_arm_shop;
            proxy_set_header X-Arm \$gate_arm_shop;
            proxy_pass http://shop;
        }

        location /late { proxy_pass http://shop; }
        location /cart { proxy_pass http://cart-2; }
        location /main { proxy_pass http://@{[ $main->addr ]}; }
        location /nothing { return 204; }

        location /cache {
            proxy_cache cache;
            proxy_cache_valid 200 1h;
            proxy_cache_key "\$uri \$gate_arm_shop";
            proxy_set_header X-Arm \$gate_arm_shop;
            proxy_pass http://shop;
        }

        location /both {
            proxy_pass http://shop;
            proxy_intercept_errors on;
            error_page 404 = \@cart;
        }
        location \@cart { proxy_pass http://Cart-2; }

        location /gate/api/ { gate_api token_file=$token; }
    }
EOF

$t->start;

sub show {
    my ($r) = @_;
    return { map { my $v = $r->header("x-$_"); defined $v ? ($_ => $v) : () }
        qw(before arm shop cart served state weight) };
}

# the line that the request left behind

sub logged {
    my ($uri) = @_;
    my @lines = wait_for { my @l = grep { /^\Q$uri\E\|/ }
        split /\n/, Gate::slurp($t->dir . '/access.log');
        @l ? \@l : 0 } what => "$uri in the log";
    return $lines[0][-1];
}

subtest 'one choice for everybody' => sub {
    my %seen;

    for my $i (1 .. 60) {
        my $r = $t->get("/shop/$i");
        my $arm = $r->header('x-before');
        $seen{$arm}++;

        is_deeply([$r->json->{backend}, $r->json->{headers}{'x-arm'},
            map { $r->header("x-$_") } qw(shop arm served map)],
            [($arm) x 5, "map:$arm"], "request $i: $arm");
        like(logged("/shop/$i"), qr/\|$arm\|$arm\|\w+\|$arm\|progressing\|50$/,
            'also in the log');
    }

    is_deeply([sort keys %seen], ['canary', 'stable'], 'both arms were chosen');
};

subtest 'the balancer chooses first, the variables follow' => sub {
    my %seen;

    for (1 .. 40) {
        my $r = $t->get('/late');
        $seen{ $r->json->{backend} }++;
        is($r->header('x-shop'), $r->json->{backend}, 'the arm in use');
    }
    is(keys %seen, 2, 'both arms were chosen');
};

subtest 'two composites' => sub {
    is_deeply(show($t->get('/shop?shop=always&cart=never')), {
        before => 'canary', arm => 'canary', shop => 'canary',
        cart => 'stable', served => 'canary', state => 'progressing',
        weight => '50' }, 'the one in use');

    is_deeply(show($t->get('/cart?shop=always&cart=never')), {
        arm => 'stable', shop => 'canary', cart => 'stable',
        served => 'stable', state => 'progressing', weight => '12.5' },
        'the other one');

    is_deeply(show($t->get('/main?shop=always&cart=never')), {
        shop => 'canary', cart => 'stable' },
        'none: what they would choose, and nothing else');

    is_deeply(show($t->get('/nothing?shop=never&cart=always')), {
        shop => 'stable', cart => 'canary' }, 'without any upstream');

    $c->set(status => 404);
    my $r = $t->get('/both?shop=always&cart=never');
    is_deeply(show($r), { arm => 'stable', shop => 'canary', cart => 'stable',
        served => 'canary, stable', state => 'progressing',
        weight => '12.5' }, 'one after the other: the last one');
    $c->set('echo');
};

subtest 'a fallback' => sub {
    $c->set(status => 500);

    my $r = $t->get('/shop/fall?shop=always');
    is($r->json->{backend}, 'stable', 'stable answers');
    is($r->json->{headers}{'x-arm'}, 'canary',
        'the request is the one that was made for the canary');

    is_deeply(show($r), { before => 'canary', arm => 'canary',
        shop => 'canary', cart => $r->header('x-cart'),
        served => 'canary, stable', state => 'progressing', weight => '50' },
        'the choice is still the canary, served says the rest');
    like(logged('/shop/fall'), qr/\|canary, stable\|/, 'also in the log');

    $c->set('echo');
};

subtest 'proxy_cache_key' => sub {
    for my $pass ('MISS', 'HIT') {
        for (['always', 'canary'], ['never', 'stable']) {
            my ($force, $arm) = @$_;
            my $r = $t->get("/cache?shop=$force");
            is_deeply([$r->header('x-cache'), $r->json->{backend},
                $r->json->{headers}{'x-arm'}, $r->header('x-shop')],
                [$pass, ($arm) x 3], "$arm: $pass");
            is($r->header('x-served'), $pass eq 'HIT' ? undef : $arm,
                'a hit makes no attempt');
        }
    }
};

sub api {
    my ($path, $body) = @_;
    my $r = $t->post("/gate/api/canary/$path", body => $body || '{}',
        headers => { Authorization => 'Bearer ' . 't' x 32,
            'Content-Type' => 'application/json' });
    is($r->status, 200, "POST $path") or diag($r->as_text);
    return;
}

subtest 'state and weight' => sub {
    for (
        ['weight', '{"weight":"0.01%"}', 'progressing', '0.01'],
        ['pause', '{}', 'paused', '0.01'],
        ['resume', '{}', 'progressing', '0.01'],
        ['weight', '{"weight":"99.9%"}', 'progressing', '99.9'],
        ['promote', '{}', 'promoted', '100'],
        ['abort', '{"reason":"test"}', 'rolled_back', '0'],
        ['retry', '{}', 'progressing', '50'],
        ['weight', '{"weight":"0%"}', 'idle', '0'],
    ) {
        my ($action, $body, $state, $weight) = @$_;
        api("shop/$action", $body);
        my $r = $t->get('/late');
        is_deeply([map { $r->header("x-$_") } qw(state weight)],
            [$state, $weight], "$action: $state, $weight %");
    }

    is($t->get('/cart')->header('x-weight'), '12.5', 'the other one is as it was');
};

# With one composite only, $gate_arm needs no name.

my $one = Gate->new;

$one->http(workers => 1, <<"EOF");
    upstream s { server @{[ $s->addr ]}; }
    upstream c { server @{[ $c->addr ]}; }
    upstream shop { gate_canary s c weight=50%; gate_force \$arg_shop; }

    server {
        listen 127.0.0.1:%%PORT:http%%;
        location /shop {
            proxy_set_header X-Arm \$gate_arm;
            proxy_pass http://shop;
        }
        location /plain {
            return 200 "\$gate_arm \$gate_rollout_state \$gate_weight";
        }
    }
EOF

$one->start;

for (['always', 'canary'], ['never', 'stable']) {
    my ($force, $arm) = @$_;
    my $e = $one->get("/shop?shop=$force")->json;
    is_deeply([$e->{backend}, $e->{headers}{'x-arm'}], [$arm, $arm],
        "one composite: \$gate_arm is known before it is in use: $arm");
    is($one->get("/plain?shop=$force")->body, "$arm progressing 50",
        'also without it');
}

my %seen = map { my $e = $one->get('/shop')->json;
    ("$e->{backend} $e->{headers}{'x-arm'}" => 1) } 1 .. 40;
is_deeply([sort keys %seen], ['canary canary', 'stable stable'],
    'and is what the balancer then does');

$one->done;
$t->done;
done_testing;
