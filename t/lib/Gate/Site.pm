package Gate::Site;

# A node with two switches and a rollout, for tests of what seldom comes
# together.
#
#   use Gate::Site;
#   Gate::Site::of($t);                     # the backends
#   my ($f, $node, $api) = fleet($r->addr);
#   my ($f, $n1, $a1, $n2, $a2) = fleet($r->addr, 'timeout=500ms', 2);
#   $f->start;
#   joined($api);

use strict;
use warnings;

use Exporter qw(import);
use Gate::Rollout;
use Gate::Util qw(wait_for);
use Scalar::Util ();
use Test::More ();

our @EXPORT = qw(site fleet again joined away is_now passes next_second);

my ($t, %backend);

sub of {
    ($t) = @_;
    $backend{stable} = $t->backend('ok', body => 'stable');
    $backend{broken} = $t->backend('status', 500);
    Scalar::Util::weaken($t);
    return;
}

# A node at that address of Redis ('': none); more: its gate_redis options.

sub site {
    my ($stable, $broken) = @backend{qw(stable broken)};
    my ($address, $more, $id) = @_;
    $id ||= 1;
    return sub {
        my ($node) = @_;
        my $api = Gate::Rollout->new($node);
        my $redis = $address ? "gate_redis redis://$address "
            . ($more || '') . ';' : '';
        return <<"EOF_CONF";
    $redis
    gate_state %%DIR%%/state;

    upstream v1 { server @{[ $stable->addr ]}; }
    upstream v2 { server @{[ $broken->addr ]}; }
    upstream shop {
        gate_canary v1 v2 weight=100% id=$id;
        gate_breach error_rate=50% window=1m min=5 exact;
    }

    server {
        listen 127.0.0.1:%%PORT:http%%;
        add_header X-Pid \$pid always;
        proxy_next_upstream error timeout http_500;
        location / { gate_maintenance on; return 200; }
        location /a { gate_maintenance a; return 200; }
        location /shop { proxy_pass http://shop; }
@{[ $api->endpoints ]}
    }
EOF_CONF
    };
}

sub fleet {
    my ($address, $more, $n) = @_;
    my $f = $t->fleet($n || 1, workers => 1, site($address, $more));
    return ($f, map { ($_, Gate::Rollout->new($_)) } $f->nodes);
}

sub again {
    my ($node, @site) = @_;
    $node->configure({ workers => 1 }, site(@site));
    $node->reload;
}

sub joined {
    my (@api) = @_;
    for my $api (@api) {
        wait_for { $api->status->{redis}{joined} } timeout => 20,
            what => 'the node to join';
    }
}

sub away {
    my ($api) = @_;
    wait_for { !$api->status->{redis}{joined} } timeout => 20,
        what => 'the node to notice';
}

sub is_now {
    my ($node, $want, $name, $uri) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    Test::More::ok(eval { wait_for { $node->get($uri || '/')->status == $want }
        timeout => 8 }, $name)
        || Test::More::diag($node->get($uri || '/')->status);
}


# Some commands go to and fro.

sub passes {
    my ($api) = @_;
    my $from = $api->status->{redis}{commands};
    wait_for { $api->status->{redis}{commands} > $from + 8 }
        what => 'some commands';
}


sub next_second {
    my $now = int time;
    wait_for { int time > $now } what => 'the next second';
}

1;
