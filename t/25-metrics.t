#!/usr/bin/perl

# gate_metrics: well-formed, documented, monotone, and in agreement with
# gate_status.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Test::More;

my $t = Gate->new;
my $token = 'metrics-test-token-0123';
chmod 0600, $t->write_file('token', "ops $token\n");

chmod 0600, $t->write_file('cursor', 'a-key-of-thirty-two-bytes-or-more');

my $v1 = $t->backend('ok', body => 'stable');
my $v2 = $t->backend('ok', body => 'canary');

my $http = <<"EOF";
    gate_state %%DIR%%/state;
    gate_maintenance_file %%DIR%%/closed switch=shop;
    map \$http_x_operator \$operator { default 0; yes 1; }

    gate_limit_zone caller key=\$arg_caller rate=3r/h;

    upstream v1 { server @{[ $v1->addr ]}; }
    upstream v2 { server @{[ $v2->addr ]}; }
    upstream web {
        gate_canary v1 v2 weight=0% id=ID;
        gate_force \$http_x_arm;
        gate_breach p95=1234ms min=1000;
        gate_breach p99=60s min=1000;
    }

    server {
        listen 127.0.0.1:%%PORT:http%%;
        gate_maintenance on;
        gate_maintenance_bypass \$operator;
        location / { proxy_pass http://web;
            proxy_next_upstream error timeout http_500; }
        location /shop/ { gate_maintenance shop; return 200 "open\\n"; }
        location /limited { gate_limit zone=caller; proxy_pass http://v1; }
        location /cursor { gate_cursor cursor;
            gate_cursor_key file=%%DIR%%/cursor; proxy_pass http://v1; }
        location /gate { gate_status; }
        location /metrics { gate_metrics; }
        location /gate/api/ { gate_api token_file=%%DIR%%/token; }
    }
EOF

sub release { (my $text = $http) =~ s/ID/$_[0]/; $t->http(workers => 2, $text) }

release(1);
$t->start;

sub call {
    my ($method, $path, $body) = @_;
    my $r = $t->request($method => "/gate/api/$path", headers => {
        Authorization => "Bearer $token",
        'Content-Type' => 'application/json' },
        defined $body ? (body => $body) : ());
    die "$path: " . $r->as_text if $r->status != 200;
}

my (%type, %help);

# name{labels} => value; checks the form of each line on the way.

sub metrics {
    my $text = $t->get('/metrics')->body;
    my (%value, @bad, $family);

    push @bad, 'no line feed at the end' unless $text =~ /\n\z/;

    for my $line (split /\n/, $text) {
        if ($line =~ /^# HELP (\w+) \S/) {
            $help{ $family = $1 }++;
        } elsif ($line =~ /^# TYPE (\w+) (counter|gauge|histogram)$/) {
            push @bad, $line if $1 ne $family;
            $type{$1} = $2;
        } elsif ($line =~ /^((\w+?)(?:_bucket|_sum|_count)?
            (?:\{(?:\w+="(?:[^"\\\n]|\\[\\n"])*",?)*\})?)\ (\S+)$/x)
        {
            my ($series, $name, $number) = ($1, $2, $3);
            push @bad, "twice: $line" if exists $value{$series};
            push @bad, $line if $name ne $family || $number !~ /^[\d.]+$/;
            $value{$series} = $number;
        } else {
            push @bad, $line;
        }
    }

    is_deeply(\@bad, [], 'the text is well-formed');
    return \%value;
}

sub traffic {
    $v2->set('ok');
    call(POST => 'canary/web/weight', '{"weight": 50}');
    $t->get('/') for 1 .. 20;
    $t->get('/', headers => { 'X-Arm' => 'always' }) for 1 .. 3;
    $t->get('/shop/') for 1 .. 4;
    $t->get("/limited?caller=$_") for 'a', 'a', '', 'b';
    $v2->set('ok', status => 500);
    call(POST => 'canary/web/weight', '{"weight": 100}');
    $t->get('/') for 1 .. 5;
    call(POST => 'maintenance', '"on"');
    $t->get('/') for 1 .. 6;
    $t->get('/', headers => { 'X-Operator' => 'yes' }) for 1 .. 2;
    call(POST => 'maintenance', '"off"');
}

traffic();

SKIP: {
    my $promtool = skip_unless_cmd('promtool', 1);
    my $file = $t->write_file('metrics', $t->get('/metrics')->body);
    my $out = `$promtool check metrics < $file 2>&1`;
    is("$? $out", '0 ', 'promtool has nothing to say');
}

subtest 'how it is asked' => sub {
    my $r = $t->get('/metrics');
    is($r->header('content-type'), 'text/plain; version=0.0.4', 'type');
    is($r->header('cache-control'), 'no-store', 'not to be stored');
    is($r->header('content-length'), length $r->body, 'length');
    is($t->request(HEAD => '/metrics')->status, 200, 'HEAD');
    is($t->post('/metrics', body => 'x')->status, 405, 'POST');
};

subtest 'it agrees with gate_status' => sub {
    my $m = metrics();
    my $s = $t->get('/gate')->json;

    for my $name (qw(global shop)) {
        my $sw = $s->{maintenance}{$name};
        is($m->{"nginx_gate_maintenance_requests_total{switch=\"$name\","
            . "decision=\"$_\"}"}, $sw->{"${_}_total"}, "$name: $_")
            for qw(admitted bypassed refused);
        is($m->{"nginx_gate_in_flight_requests{switch=\"$name\","
            . "kind=\"$_\"}"}, $sw->{in_flight}{$_}, "$name: $_ now")
            for qw(admitted bypassed upgraded);
        is($m->{"nginx_gate_maintenance{switch=\"$name\"}"}, 0, 'open');
    }

    is($s->{maintenance}{global}{refused_total}, 6, 'refused');

    my $web = $s->{rollouts}{web};

    for my $arm (qw(stable canary)) {
        my $total = $web->{totals}{$arm};
        my $l = "upstream=\"web\",arm=\"$arm\"";

        for my $kind (qw(normal forced fallback)) {
            my $from = $kind eq 'normal' ? $total : $total->{$kind};
            is($m->{"nginx_gate_attempts_total{$l,kind=\"$kind\"}"},
                $from->{attempts}, "$arm: $kind attempts");
            is($m->{"nginx_gate_attempt_failures_total{$l,kind=\"$kind\"}"},
                $from->{failures}, "$arm: $kind failures");
        }

        is($m->{"nginx_gate_requests_total{$l}"}, $total->{requests},
            "$arm: requests");
        is($m->{"nginx_gate_unavailable_total{$l}"}, $total->{unavailable},
            "$arm: unavailable");
        is($m->{"nginx_gate_breaker_open{$l}"}, 0, "$arm: breaker");
    }

    my $l = 'upstream="web"';
    is($m->{"nginx_gate_rollout_epoch{$l}"}, $web->{epoch}, 'epoch');
    is($m->{"nginx_gate_canary_weight_ratio{$l,kind=\"effective\"}"} + 0, 1,
        'weight');
    is($m->{"nginx_gate_canary_weight_ratio{$l,kind=\"configured\"}"} + 0, 0,
        'weight of the file');
    is($m->{"nginx_gate_rollout_state{$l,state=\"$_\"}"},
        $_ eq 'progressing' ? 1 : 0, "state $_")
        for qw(idle progressing paused promoted rolled_back);
    cmp_ok($m->{"nginx_gate_saved_requests_total{$l}"}, '>=', 5, 'saved');
    is($m->{'nginx_gate_agent_up'}, 1, 'agent');
    is($m->{'nginx_gate_zone_bytes{kind="size"}'}, $s->{zone}{size}, 'zone');
    is($m->{'nginx_gate_agent_elections_total'}, $s->{agent}{elections},
        'elections');
};

subtest 'buckets are cumulative' => sub {
    my $m = metrics();

    for my $arm (qw(stable canary)) {
        my $l = "upstream=\"web\",arm=\"$arm\"";
        my $name = 'nginx_gate_response_header_seconds';
        my %bucket;

        for (keys %$m) {
            $bucket{$1} = $m->{$_} if /^\Q${name}_bucket{$l\E,le="(.*)"\}$/;
        }

        my $count = $m->{"${name}_count{$l}"};
        is(delete $bucket{'+Inf'}, $count, "$arm: +Inf is the count");
        my @le = sort { $a <=> $b } keys %bucket;
        cmp_ok(scalar @le, '>', 10, 'bounds');
        ok((grep { $_ == 1.234 } @le), 'among them the one of a rule');
        ok((grep { $_ == 60 } @le), 'also a large one');

        my $last = 0;
        my @down = grep { my $down = $bucket{$_} < $last;
            $last = $bucket{$_}; $down } @le;
        is_deeply(\@down, [], 'never falling');
        cmp_ok($last, '<=', $count, 'nor above the count');

        my $evidence = $m->{"nginx_gate_attempts_total{$l,kind=\"normal\"}"};
        is($count, $evidence, 'as many as there is evidence');
    }
};

subtest 'counters never go back' => sub {
    my $before = metrics();

    my $check = sub {
        my ($name) = @_;
        my $now = metrics();
        my @back = grep {
            my ($family) = /^(\w+?)(?:_bucket|_sum|_count)?(?:\{|$)/;
            ($type{$family} eq 'counter' || $type{$family} eq 'histogram')
                && ($now->{$_} // -1) < $before->{$_};
        } sort keys %$before;
        is_deeply(\@back, [], $name);
        $before = $now;
    };

    for my $weight (10, 90, 10, 90, 100) {
        call(POST => 'canary/web/weight', qq({"weight": $weight}));
        $t->get('/') for 1 .. 3;
        $check->("weight $weight");
    }

    call(POST => 'canary/web/abort');
    $check->('a rollback');
    call(POST => 'canary/web/retry');
    $check->('a new epoch');
    release(2);
    $t->reload;
    $check->('a new release');
    traffic();
    $check->('its traffic');
    $t->kill_worker;
    $check->('a killed worker');

    is($before->{'nginx_gate_flips_total{upstream="web"}'}, 1, 'one flip');
};

# those of Redis are there where it is, and asked for there

subtest 'the documentation has every name, and no other' => sub {
    my $doc = Gate::slurp(Gate::root() . '/docs/operations.md');
    my ($part) = $doc =~ /^## Metrics\n(.*?)^## /ms;

    my (%doc, %label);
    for my $row ($part =~ /^\|(.*)\|$/mg) {
        my ($names, $labels) = split /\|/, $row;
        for my $name ($names =~ /`(nginx_gate_\w+)`/g) {
            next if $name =~ /^nginx_gate_(?:redis|fleet)_/;
            next if $name =~ /^nginx_gate_limit_(?:online|sync|batch|override)/;
            $doc{$name}++;
            $label{$name} = join ',', sort $labels =~ /\w+/g;
        }
    }

    metrics();
    is_deeply([ sort keys %doc ], [ sort keys %type ], 'names');
    is_deeply([ grep { $doc{$_} > 1 } keys %doc ], [], 'once each');
    is_deeply([ sort keys %help ], [ sort keys %type ], 'each has its help');
    is_deeply([ grep { ($type{$_} eq 'counter') != /_total$/ } keys %type ],
        [], 'counters end in _total');

    my %real;
    for (split /\n/, $t->get('/metrics')->body) {
        next unless /^(nginx_gate_\w+?)(?:_bucket|_sum|_count)?\{(.*)\}/;
        my ($name, $labels) = ($1, $2);
        $real{$name} = join ',', grep { $_ ne 'le' }
            sort $labels =~ /(\w+)="/g;
    }
    is_deeply([ map { "$_ $label{$_}" } sort keys %label ],
        [ map { "$_ " . ($real{$_} // '') } sort keys %label ], 'labels');
};

# a label may hold what the name of an upstream may

{
    my $odd = Gate->new;
    $odd->http(workers => 1, <<"EOF");
    upstream v1 { server @{[ $v1->addr ]}; }
    upstream v2 { server @{[ $v2->addr ]}; }
    upstream "a.b-c_1" { gate_canary v1 v2; }
    server {
        listen 127.0.0.1:%%PORT:http%%;
        location /metrics { gate_metrics; }
    }
EOF
    $odd->start;
    like($odd->get('/metrics')->body,
        qr/^nginx_gate_rollout_epoch\{upstream="a\.b-c_1"\} \d+$/m,
        'an upstream with dots and dashes');
    $odd->done;
}

$t->done;
done_testing;
