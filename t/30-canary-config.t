#!/usr/bin/perl

# What "nginx -t" says of a composite: the shortest configuration that works,
# and for each mistake the place and the remedy.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Test::More;

my $t = Gate->new;

my $arms = <<'EOF';
    upstream v1 { server 127.0.0.1:9; }
    upstream v2 { server 127.0.0.1:9; }
EOF

# The file is test.conf; the number of the last line with that text.

sub line_of {
    my ($text, $mark) = @_;
    my ($n, $found) = (0, 0);
    for my $line (split /\n/, $t->expand($text)) {
        $n++;
        $found = $n if index($line, $mark) >= 0;
    }
    return $found || die "no line has $mark\n";
}

sub good {
    my ($name, $block) = @_;
    my ($code, $out) = $t->test_http($block);
    is($code, 0, $name) or diag($out);
    return $out;
}

# $mark: text of the line that the message must name

sub bad {
    my ($name, $block, $re, $mark) = @_;

    my $text = $t->http_text($block);
    my ($code, $out) = $t->test_conf($text);

    subtest $name => sub {
        is($code, 1, 'refused');
        like($out, $re, 'reason and remedy');

        my $line = line_of($text, $mark || 'gate_canary');
        like($out, qr/\[emerg\][^\n]* in \S*test\.conf:$line$/m,
            'file and line');
        unlike($out, qr/signal|Sanitizer/, 'no crash');
    };
}

# a composite with these directives, and its arms

sub composite {
    my ($inside) = @_;
    return "$arms    upstream shop {\n$inside\n    }\n";
}

subtest 'what works' => sub {
    my ($code, $out) = $t->test_conf(<<'EOF');
%%LOAD%%
pid %%DIR%%/nginx.pid;
error_log %%DIR%%/error.log;
events { }
http {
    access_log off;
    upstream v1 { server 127.0.0.1:9; }
    upstream v2 { server 127.0.0.1:9; }
    upstream shop { gate_canary v1 v2; }
    server { listen 127.0.0.1:%%PORT:http%%;
        location / { proxy_pass http://shop; } }
}
EOF
    is($code, 0, 'the shortest configuration') or diag($out);

    good('forward references, also from before http is read to its end', <<'EOF');
    server { listen 127.0.0.1:%%PORT:http%%;
        location / { proxy_pass http://shop; }
        location /v2 { proxy_pass http://v2; } }
    upstream shop { gate_canary v1 v2 weight=5% id=2026.11.2; }
    upstream v2 { server 127.0.0.1:9; zone v2 64k; }
    upstream v1 { server 127.0.0.1:9; server 127.0.0.1:10 backup; }
EOF

    for my $w (qw(0% 0.01% 5% 12.34% 99.99% 100%)) {
        good("weight $w", composite("gate_canary v1 v2 weight=$w;"));
    }

    my $key = $t->write_file('good.key', 'k' x 32 . "\n");
    chmod 0600, $key;

    good('everything at once', composite(<<"EOF"));
        gate_key \$remote_addr\$http_x_key;
        gate_force \$http_x_canary \$arg_canary always;
        gate_canary v1 v2 weight=5% id=r-1_2.3+4;
        gate_sticky cookie=arm key_file=$key path=/shop domain=example.org
            max_age=1d secure;
        gate_fallback off;
        gate_failure \$upstream_http_x_failed;
        gate_breach error_rate=5% window=10m min=100;
        gate_breach p95=2s hold=30s exact;
        gate_breach error_ratio=2;
        gate_breach latency_ratio=1.5 quantile=p99;
        gate_label version=1.2.3 team="a/b";
        keepalive 8;
EOF

    good('one upstream in two composites', $arms . <<'EOF');
    upstream shop { gate_canary v1 v2; }
    upstream cart { gate_canary v1 v2 weight=50%; }
EOF

    my $out2 = good('names are found as proxy_pass finds them, in any case',
        composite('gate_canary V1 V2;'));
    unlike($out2, qr/\[(?:warn|emerg|alert)\]/, 'no warning');
};

# The arms.

bad('an unknown arm', composite('gate_canary v1 v3;'),
    qr/unknown upstream "v3" .*needs an "upstream v3 \{ \.\.\. \}" block/);

bad('an address is no arm, though a proxy_pass has made it an upstream',
    composite('gate_canary v1 127.0.0.1:9;')
    . 'server { listen 127.0.0.1:%%PORT:http%%;
        location / { proxy_pass http://127.0.0.1:9; } }',
    qr/unknown upstream "127.0.0.1:9".*needs an "upstream/);

bad('one upstream twice', composite('gate_canary v1 v1;'),
    qr/names one upstream twice, stable and canary must differ/);

bad('one upstream twice, in another case', composite('gate_canary v1 V1;'),
    qr/names one upstream twice, stable and canary must differ/);

bad('a composite in a composite', $arms . <<'EOF',
    upstream shop { gate_canary v1 v2; }
    upstream mall {
        gate_canary v1 shop;
    }
EOF
    qr/upstream "shop" .*cannot be nested/, 'gate_canary v1 shop');

bad('a composite in itself', composite('gate_canary shop v2;'),
    qr/upstream "shop" .*cannot be nested/);

# What a composite has no room for.

for my $order ('before', 'after') {
    my $with = sub {
        return composite(join "\n", $order eq 'before'
            ? (@_, 'gate_canary v1 v2;') : ('gate_canary v1 v2;', @_));
    };

    bad("a server, $order gate_canary", $with->('server 127.0.0.1:9;'),
        qr/"server".*move (?:it|the servers) into (?:one of )?the arms/);

    bad("a zone, $order gate_canary", $with->('zone shop 64k;'),
        qr/"zone".*give it to the arms/);

    for my $method ('least_conn', 'ip_hash', 'random', 'hash $uri',
        'hash $uri consistent')
    {
        bad("$method, $order gate_canary", $with->("$method;"),
            qr/load balancing method.*give (?:it|the method) to the arms/);
    }
}

bad('keepalive goes after gate_canary',
    composite("keepalive 4;\ngate_canary v1 v2;"),
    qr/must come before "keepalive"/)
    if $t->{nginx} && `$t->{nginx} -v 2>&1` =~ m{nginx/1\.2[0-8]\.};

bad('gate_canary twice',
    composite("gate_canary v1 v2;\ngate_canary v2 v1;"),
    qr/"gate_canary" directive is duplicate/, 'gate_canary v2 v1');

# Parameters.

for my $w (qw(101% -1% 100.01% 5 5.5 0.001% 5.123% 1e1% % five% 5%%), '') {
    bad("weight=$w", composite("gate_canary v1 v2 weight=$w;"),
        qr/invalid weight "\Q$w\E", .* from 0% to 100% in steps of 0.01%/);
}

bad('one arm only', composite('gate_canary v1;'),
    qr/invalid number of arguments in "gate_canary"/);

bad('an unknown parameter', composite('gate_canary v1 v2 wieght=5%;'),
    qr/invalid parameter "wieght=5%", it must be "weight=" or "id="/);

for my $id ('', '"a b"', 'x' x 200, "\xc3\xa4") {
    bad('id=' . substr($id, 0, 20), composite(qq(gate_canary v1 v2 id=$id;)
        =~ s/id="/"id=/r),
        qr/invalid value .* it must be of 1 to \d+ printable ASCII/);
}

bad('a composite whose name is no name',
    $arms . 'upstream "sh/op" { gate_canary v1 v2; }',
    qr/"sh\/op" cannot be a composite, it must be of up to 64 letters/);

bad('two composites with one variable', $arms . <<'EOF',
    upstream a-b { gate_canary v1 v2; }
    upstream a.b { gate_canary v1 v2 weight=1%; }
EOF
    qr/"\$gate_arm_a_b" of upstream "a\.b" .*give the upstream another name/,
    'upstream a.b');

bad('a composite named as one of our variables',
    $arms . 'upstream served { gate_canary v1 v2; }',
    qr/give the upstream another name/);

bad('a composite whose variable is set by somebody else', <<'EOF' . $arms
    map $uri $gate_arm_shop { default canary; }
EOF
    . 'upstream shop { gate_canary v1 v2; }',
    qr/"\$gate_arm_shop" of upstream "shop" .*give the upstream another name/);

# Directives without their composite.

my $key = $t->write_file('a.key', 'k' x 32 . "\n");
chmod 0600, $key;

for my $d ('gate_key $uri', 'gate_force $arg_f', 'gate_fallback on',
    'gate_failure $arg_f', 'gate_breach error_rate=5%',
    "gate_sticky cookie=a key_file=$key", 'gate_label a=b')
{
    (my $name = $d) =~ s/ .*//;
    bad("$name without gate_canary", <<"EOF",
    upstream shop {
        server 127.0.0.1:9;
        $d;
    }
EOF
        qr/upstream "shop" has gate directives but no "gate_canary"/, $name);
}

bad('gate_canary outside of upstream',
    'server { gate_canary v1 v2; }',
    qr/"gate_canary" directive is not allowed here/);

for my $d ('gate_key $uri', 'gate_fallback on', 'gate_label a=b',
    "gate_sticky cookie=a key_file=$key", 'gate_force $arg_f',
    'gate_failure $arg_f')
{
    (my $name = $d) =~ s/ .*//;
    bad("$name twice", composite("gate_canary v1 v2;\n$d;\n$d;"),
        qr/"$name" directive is duplicate/, $name) if $name ne 'gate_force';
}

bad('gate_fallback is on or off',
    composite("gate_canary v1 v2;\ngate_fallback maybe;"),
    qr/invalid value "maybe" in "gate_fallback".*"on" or "off"/,
    'gate_fallback');

# gate_sticky: the key is a secret.

sub sticky {
    return composite("gate_canary v1 v2 weight=5%;\n        gate_sticky $_[0];");
}

my %file = (
    short => ['k' x 31 . "\n", 0600],
    empty => ['', 0600],
    blank => ["\n\n", 0600],
    three => [join('', map { $_ x 32 . "\n" } qw(a b c)), 0600],
    world => ['k' x 32 . "\n", 0604],
    write => ['k' x 32 . "\n", 0602],
);

for my $name (keys %file) {
    my $path = $t->write_file("$name.key", $file{$name}[0]);
    chmod $file{$name}[1], $path;
}

sub sticky_bad {
    my ($name, $args, $re) = @_;
    return bad("gate_sticky: $name", sticky($args), $re, 'gate_sticky');
}

my $dir = $t->dir;

sticky_bad('no cookie', "secure key_file=$key",
    qr/needs "cookie=" and "key_file="/);
sticky_bad('no key file', 'cookie=arm secure',
    qr/needs "cookie=" and "key_file="/);
sticky_bad('no such file', "cookie=arm key_file=$dir/none.key",
    qr{secret file "\Q$dir\E/none\.key" cannot be opened.*No such file});
sticky_bad('a directory', "cookie=arm key_file=$dir",
    qr/is not a regular file/);
sticky_bad('a short key', "cookie=arm key_file=$dir/short.key",
    qr/short\.key", there must be one or two lines of 32 characters or more/);
sticky_bad('an empty file', "cookie=arm key_file=$dir/empty.key",
    qr/empty\.key" is empty/);
sticky_bad('no key in the file', "cookie=arm key_file=$dir/blank.key",
    qr/no key in ".*blank\.key"/);
sticky_bad('three keys', "cookie=arm key_file=$dir/three.key",
    qr/there must be one or two lines/);
sticky_bad('readable by everybody', "cookie=arm key_file=$dir/world.key",
    qr/world\.key" can be read or written by everybody, use "chmod 600"/);
sticky_bad('writable by everybody', "cookie=arm key_file=$dir/write.key",
    qr/write\.key" can be read or written by everybody, use "chmod 600"/);
sticky_bad('no token', "\"cookie=a b\" key_file=$key",
    qr/invalid parameter "cookie=a b"/);
sticky_bad('an attribute in the path',
    "cookie=a key_file=$key \"path=/;x\"", qr/invalid parameter "path=/);
sticky_bad('a bad time', "cookie=a key_file=$key max_age=soon",
    qr/invalid parameter "max_age=soon"/);
sticky_bad('an unknown parameter', "cookie=a key_file=$key httponly",
    qr/invalid parameter "httponly", it must be "cookie="/);

{
    my (undef, $out) = $t->test_http(sticky("cookie=a key_file=$dir/short.key"));
    unlike($out, qr/kkkk/, 'no message shows a key');
}

# gate_breach

for (
    ['speed=5' => qr/invalid rule "speed=5", it must begin with "error_rate="/],
    ['error_rate' => qr/invalid rule "error_rate", it must begin/],
    ['p90=1s' => qr/invalid rule "p90=1s"/],
    ['error_rate=5' => qr/invalid error rate "5".*percentage.*as in "5%"/],
    ['error_rate=100%' => qr/invalid error rate "100%".*below 100%/],
    ['error_rate=-1%' => qr/invalid error rate "-1%"/],
    ['error_rate=' => qr/invalid error rate ""/],
    ['p95=fast' => qr/invalid time "fast".*as in "500ms" or "2s"/],
    ['p95=0' => qr/invalid time "0"/],
    ['p95=2d' => qr/invalid time "2d"/],
    ['error_ratio=0' => qr/invalid ratio "0".*as in "1.5"/],
    ['error_ratio=2000' => qr/invalid ratio "2000".*up to 1000/],
    ['latency_ratio=much' => qr/invalid ratio "much"/],
    ['latency_ratio=2 quantile=p90' => qr/invalid quantile.*p50, p95 or p99/],
    ['p95=1s quantile=p99' => qr/invalid parameter "quantile=p99"/],
    ['error_rate=5% window=10ms' => qr/"window=10ms", a window is from 1s to 1d/],
    ['error_rate=5% window=2d' => qr/"window=2d", a window is from 1s to 1d/],
    ['error_rate=5% hold=2d' => qr/"hold=2d", a hold is a time up to 1d/],
    ['error_rate=5% min=0' => qr/"min=0", a minimum is a number/],
    ['error_rate=5% min=many' => qr/"min=many", a minimum is a number/],
    ['error_rate=5% mind=5' => qr/invalid parameter "mind=5", it must be/],
) {
    my ($rule, $re) = @$_;
    bad("gate_breach $rule",
        composite("gate_canary v1 v2;\ngate_breach $rule;"), $re,
        'gate_breach');
}

bad('nine rules', composite("gate_canary v1 v2;\n"
    . join("\n", map { "gate_breach error_rate=$_%;" } 1 .. 9)),
    qr/is one too many, an upstream has up to 8/, 'error_rate=9%');

bad('three latency ratios', composite("gate_canary v1 v2;\n"
    . join("\n", map { "gate_breach latency_ratio=$_;" } 2 .. 4)),
    qr/one too many, an upstream has up to 2/, 'latency_ratio=4');

# gate_label

for (
    ['version' => qr/invalid label "version", it must be name=value/],
    ['=1' => qr/invalid label "=1", it must be name=value/],
    ['"a b=1"' => qr/invalid label "a b=1"/],
    ['a=' => qr/invalid value ""/],
    ['"a=b c"' => qr/invalid value "b c"/],
    [join(' ', map { "label$_=" . 'v' x 100 } 1 .. 5) => qr/is too long/],
) {
    my ($label, $re) = @$_;
    bad('gate_label ' . substr($label, 0, 20),
        composite("gate_canary v1 v2;\ngate_label $label;"), $re,
        'gate_label');
}

# A new configuration with a mistake changes nothing.

$t->http(workers => 1, composite('gate_canary v1 v2 weight=5% id=one;') . <<'EOF');
    server { listen 127.0.0.1:%%PORT:http%%; location / { gate_status; } }
EOF
$t->start;

my $before = $t->get('/')->json->{rollouts}{shop};
is($before->{weight}, 5, 'a rollout at 5 %');

$t->http(workers => 1, composite(
    "gate_canary v1 v2 weight=50% id=two;\ngate_breach nonsense;") . <<'EOF');
    server { listen 127.0.0.1:%%PORT:http%%; location / { gate_status; } }
EOF
$t->allow(qr/invalid rule "nonsense"/);
is($t->reload(may_fail => 1), undef, 'a reload with a mistake fails');

my $after = $t->get('/')->json->{rollouts}{shop};
is_deeply([@$after{qw(weight id epoch)}], [@$before{qw(weight id epoch)}],
    'and the rollout goes on as it was');

$t->done;
done_testing;
