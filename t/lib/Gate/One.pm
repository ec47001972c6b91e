package Gate::One;

# What tests of one nginx with one Redis, a fake one mostly, ask all the time.
#
#   my $t = Gate->new;
#   my $fake = $t->fake_redis(upstream => $t->redis);
#   Gate::One->watch($t, $fake);
#   $t->http(conf('redis://' . $fake->addr));   # /gate is the status
#   $t->start;
#   ready();                                    # waits; the status of Redis
#   fails('auth', 'ROLE', "-NOAUTH ...\r\n");   # waits for such an error
#   serves();                                   # a test: requests are served

use strict;
use warnings;

use Exporter qw(import);
use Gate::Util qw(wait_for);
use Test::More ();

our @EXPORT = qw(bulk conf fails ready redis serves text);

my ($t, $fake);

sub watch {
    my $class = shift;
    ($t, $fake) = @_;
}

# For $t->http: the options and the block.

sub conf {
    my ($args, $log) = @_;
    return (log => $log || 'notice', <<"EOF_CONF");
    gate_redis $args timeout=300ms poll=100ms;
    server {
        listen 127.0.0.1:%%PORT:http%%;
        location = /gate { gate_status; }
        location / { return 204; }
    }
EOF_CONF
}

sub bulk { return '$' . length($_[0]) . "\r\n$_[0]\r\n" }

sub redis { return $t->get('/gate')->json->{redis} }

sub text { return $_[0]{last_error}{text} }

sub ready {
    my ($what) = @_;
    my $s;
    wait_for { $s = redis(); $s->{state} eq 'ready' }
        what => $what || 'Redis to be ready';
    return $s;
}

# What the fake says from now on, to that and to nothing else; waits until it
# led to an error of that kind.

sub fails {
    my ($kind, $name, @steps) = @_;

    my $s = redis();
    my $was = $s->{errors}{$kind} || 0;
    $fake->off;
    $fake->on($name, @steps);
    $fake->drop if $s->{state} eq 'ready';
    wait_for { $s = redis(); ($s->{errors}{$kind} || 0) > $was }
        what => "an error of kind $kind, after $name";
    return $s;
}

sub serves {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return Test::More::is($t->get('/')->status, 204, 'requests are served');
}

1;
