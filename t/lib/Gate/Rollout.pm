package Gate::Rollout;

# What tests of rollouts ask a gate again and again: its status and its API.
#
#   use Gate::Rollout;
#   my $g = Gate::Rollout->new($t);         # endpoints at /gate and /gate/api/
#   $t->http($g->endpoints . '...');        # the locations, for a server{}
#   $g->status                              # the whole document
#   $g->rollout('shop')                     # one rollout
#   $g->arm('shop', 'canary')               # an arm's numbers of this step
#   $g->wait_state('shop', 'rolled_back')   # returns the rollout
#   $g->api('canary/shop/weight', { weight => 5 })       # dies unless 200
#   $g->counted('shop', sub { ... }, { canary => { attempts => 1 } }, $name)

use strict;
use warnings;

use Gate::Util qw(scale wait_for);
use JSON::PP ();
use Test::More ();
use Time::HiRes qw(sleep time);

my $TOKEN = 'nginx-gate-test-token-0123456789abcdef';

sub new {
    my ($class, $t, %opt) = @_;

    my $self = bless { t => $t, port => $opt{port} }, $class;
    my $file = $t->write_file('gate.token', "$TOKEN\n");
    chmod 0600, $file or die "chmod $file: $!\n";
    $self->{file} = $file;

    return $self;
}

sub endpoints {
    my ($self) = @_;
    return <<"EOF_CONF";
        location = /gate { gate_status; }
        location = /gate-metrics { gate_metrics; }
        location /gate/api/ { gate_api token_file=$self->{file}; }
EOF_CONF
}

sub _opt { return $_[0]{port} ? (port => $_[0]{port}) : () }

sub status {
    my ($self) = @_;
    my $r = $self->{t}->get('/gate', $self->_opt, timeout => 10 * scale());
    die 'no status: ' . $r->as_text . "\n" if $r->status != 200;
    return $r->json;
}

sub rollout {
    my ($self, $name) = @_;
    return $self->status->{rollouts}{$name} || die "no rollout $name\n";
}

sub arm {
    my ($self, $name, $arm) = @_;
    return $self->rollout($name)->{arms}{$arm};
}

sub wait_state {
    my ($self, $name, $state, %opt) = @_;

    my $rollout;
    wait_for { ($rollout = $self->rollout($name))->{state} eq $state }
        timeout => 20, what => "$name to be $state", %opt;
    return $rollout;
}

sub call {
    my ($self, $path, $body) = @_;
    return $self->{t}->post("/gate/api/$path", $self->_opt,
        headers => { Authorization => "Bearer $TOKEN",
            'Content-Type' => 'application/json' },
        body => JSON::PP->new->ascii->allow_nonref->encode($body || {}));
}

sub api {
    my ($self, $path, $body) = @_;
    my $r = $self->call($path, $body);
    die "$path: " . $r->as_text . "\n" if $r->status != 200;
    return $r->json;
}

# The numbers of a step, flat: { canary => { attempts => 1, 'forced.failures'
# => 0, ... }, stable => ..., saved => 0, fallbacks => 0 }.

sub numbers {
    my ($self, $name) = @_;

    my $rollout = $self->rollout($name);
    my %n = map { $_ => $rollout->{$_} } qw(saved fallbacks step);

    for my $arm (qw(stable canary)) {
        my $a = $rollout->{arms}{$arm};
        $n{$arm}{$_} = $a->{$_}
            for qw(requests attempts failures unavailable broken censored);
        for my $kind (qw(forced fallback)) {
            $n{$arm}{"$kind.$_"} = $a->{$kind}{$_} for qw(attempts failures);
        }
    }

    return \%n;
}

sub _less {
    my ($now, $then) = @_;

    my %d;
    for (keys %$now) {
        my $d = ref $now->{$_} ? _less($now->{$_}, $then->{$_})
            : $now->{$_} - $then->{$_};
        $d{$_} = $d if ref $d ? %$d : $d;
    }

    return \%d;
}

# What the code adds to the numbers is exactly this, and stays so.  An answer
# reaches the client before its attempt is counted, so this may take a moment.

sub counted {
    my ($self, $name, $code, $want, $title) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my $then = $self->numbers($name);
    $code->();

    my ($json, $got) = (JSON::PP->new->canonical);
    my $end = time + 5 * scale();
    do {
        $got = _less($self->numbers($name), $then);
    } while ($json->encode($got) ne $json->encode($want) && time < $end
        && sleep 0.02);

    # a second count of the same would come with the next turn of the worker
    $got = _less($self->numbers($name), $then);
    return Test::More::is_deeply($got, $want, $title)
        || Test::More::diag('got ' . $json->encode($got));
}

1;
