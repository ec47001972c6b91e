package Gate;

# The test harness: nginx instances, backends and clients for one test file.
#
#   use lib 't/lib';
#   use Gate;
#   use Test::More;
#
#   my $t = Gate->new;
#   my $b = $t->backend('ok', body => 'hello');
#   $t->http('server { listen 127.0.0.1:%%PORT:http%%;'
#       . ' location / { proxy_pass http://' . $b->addr . '; } }');
#   $t->start;
#   is($t->get('/')->body, 'hello');
#   $t->done;
#   done_testing;
#
# Environment: NGINX_BIN (nginx), MODULE_SO (the module; empty when it is
# built in), SANITIZE (1: nginx is slow, be patient), TEST_VERBOSE (2: show the
# error log), TEST_LEAVE (keep the directories), GATE_BUILD (where tools are
# compiled to).

use strict;
use warnings;

use Cwd ();
use Exporter ();
use File::Basename ();
use File::Path ();
use File::Temp ();
use Scalar::Util ();
use Socket;
use Test::More ();

use Gate::Backend;
use Gate::Conn;
use Gate::Load;
use Gate::Port qw(free_port);
use Gate::Util qw(json root scale skip_unless_cmd slurp spew wait_for which);

our @ISA = ('Gate::Nginx');
our @EXPORT = qw(wait_for skip_unless_cmd);

require Gate::Nginx;

sub import { goto &Exporter::import }

my @live;                        # weak references to the objects in use

# Options: module (0: load none), user (of the workers, when run as root).

sub new {
    my ($class, %opt) = @_;

    my $nginx = $ENV{NGINX_BIN} || 'nginx';
    my $so = defined $ENV{MODULE_SO} ? $ENV{MODULE_SO}
        : ($ENV{GATE_BUILD} || root() . '/build') . '/ngx_http_gate_module.so';
    $so = '' if exists $opt{module} && !$opt{module};
    $so = Cwd::abs_path($so) || $so if $so ne '';

    my $self = bless {
        owner => $$,
        nginx => which($nginx) || die("no nginx ($nginx)\n"),
        so    => $so,
        user  => $opt{user} || 'root',
        dir   => File::Temp::tempdir('gate-XXXXXX', TMPDIR => 1),
        ports => {}, allow => [], killed => {}, exits => [], stops => [],
        san_text => '',
    }, $class;

    # workers may run as somebody else
    chmod 0755, $self->{dir};
    for ([tmp => 0755], [san => 01777]) {
        mkdir "$self->{dir}/$_->[0]";
        chmod $_->[1], "$self->{dir}/$_->[0]";
    }

    push @live, $self;
    Scalar::Util::weaken($live[-1]);
    return $self;
}

sub dir { return $_[0]{dir} }

# The TCP port with that name, the same at every call.

sub port {
    my ($self, $name) = @_;
    return $self->{ports}{ defined $name ? $name : 'http' } ||= free_port();
}

sub expand {
    my ($self, $text) = @_;

    my $load = $self->{so} ne '' ? "load_module $self->{so};" : '';

    $text =~ s/%%PORT:(\w+)%%/$self->port($1)/ge;
    $text =~ s/%%DIR%%/$self->{dir}/g;
    $text =~ s/%%LOAD%%/$load/g;
    die "unknown expansion $&\n" if $text =~ /%%\w+(?::\w*)?%%/;

    return $text;
}

# Writes nginx.conf.

sub conf {
    my ($self, $template) = @_;
    $self->{conf} = $self->expand($template);
    spew("$self->{dir}/nginx.conf", $self->{conf});
    return $self;
}

# Writes a file (below the directory, unless the path is absolute).

sub write_file {
    my ($self, $name, $content) = @_;

    my $path = $name =~ m{^/} ? $name : "$self->{dir}/$name";
    File::Path::make_path(File::Basename::dirname($path));
    return spew($path, $content);
}

# A whole configuration around the contents of the http block, which come
# last.  Options before it: workers, log (level), main, events (more
# directives), access (a log format: writes access.log).

sub http_text {
    my $self = shift;
    my $block = pop;
    my %opt = (workers => 2, log => 'info', main => '', events => '', @_);

    my $user = $> == 0 ? "user $self->{user};" : '';
    my $access = 'access_log off;';
    if (defined $opt{access}) {
        (my $format = $opt{access}) =~ s/'/\\'/g;
        $access = "log_format test '$format';\n"
            . '    access_log %%DIR%%/access.log test;';
    }

    my $temp = join "\n    ", map { "${_}_temp_path %%DIR%%/tmp/$_;" }
        qw(client_body proxy fastcgi uwsgi scgi);

    return <<"EOT";
%%LOAD%%
$user
daemon off;
worker_processes $opt{workers};
error_log %%DIR%%/error.log $opt{log};
pid %%DIR%%/nginx.pid;
lock_file %%DIR%%/nginx.lock;
$opt{main}

events {
    worker_connections 2048;
    $opt{events}
}

http {
    $temp
    $access

$block
}
EOT
}

sub http {
    my $self = shift;
    return $self->conf($self->http_text(@_));
}

# Runs nginx -t on such a configuration: (exit code, output).

sub test_http {
    my $self = shift;
    return $self->test_conf($self->http_text(@_));
}

# Clients.  The port is a number or a name, by default 'http'.

sub _port_of {
    my ($self, $port) = @_;
    return defined $port && $port =~ /^\d+$/ ? $port : $self->port($port);
}

sub conn {
    my ($self, %opt) = @_;
    return Gate::Conn->new(%opt, port => $self->_port_of($opt{port}));
}

sub request {
    my ($self, $method, $uri, %opt) = @_;

    my $c = $self->conn(map { $_ => $opt{$_} }
        grep { exists $opt{$_} } qw(port host timeout tls rcvbuf));
    my $r = $c->request($method, $uri, %opt);
    $c->close;
    return $r;
}

sub get { my $self = shift; return $self->request('GET', @_) }

sub post { my $self = shift; return $self->request('POST', @_) }

# Sends the bytes and returns all that comes until the server closes.
# When that ended in a timeout or an error, raw_error says so.

sub raw {
    my ($self, $bytes, %opt) = @_;

    my $c = $self->conn(%opt);
    $c->write($bytes);
    $c->finish if $opt{finish};
    my $answer = $c->{sock} ? $c->read_all : '';
    $self->{raw_error} = $c->error;
    $c->close;
    return $answer;
}

sub raw_error { return $_[0]{raw_error} }

# Servers and load.

sub backend {
    my ($self, @args) = @_;

    # tls => 1 means: with the certificate of this directory
    for my $i (grep { !ref $args[$_] && defined $args[$_]
        && $args[$_] eq 'tls' } 0 .. $#args - 1)
    {
        next if ref $args[$i + 1] || !$args[$i + 1];
        my ($crt, $key) = $self->cert;
        $args[$i + 1] = { SSL_cert_file => $crt, SSL_key_file => $key };
    }

    my $b = Gate::Backend->new(@args);
    push @{ $self->{stops} }, $b;
    return $b;
}

# A port that accepts no connection and refuses none: connects time out.

sub blackhole {
    my ($self) = @_;

    my $port = free_port();
    my $l = IO::Socket::INET->new(LocalAddr => '127.0.0.1',
        LocalPort => $port, Proto => 'tcp', Listen => 1, ReuseAddr => 1)
        or die "cannot listen: $!\n";
    listen $l, 0;

    my @fill = map { IO::Socket::INET->new(PeerAddr => '127.0.0.1',
        PeerPort => $port, Proto => 'tcp', Blocking => 0) } 1 .. 4;
    push @{ $self->{holes} }, $l, @fill;
    return $port;
}

# A self-signed certificate for localhost and 127.0.0.1: (file, key file).

sub cert {
    my ($self) = @_;

    my ($crt, $key) = map { "$self->{dir}/localhost.$_" } qw(crt key);
    return ($crt, $key) if -s $crt;

    my $out = `openssl req -x509 -newkey rsa:2048 -nodes -days 2 \\
        -subj /CN=localhost \\
        -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \\
        -keyout $key -out $crt 2>&1`;
    die "openssl: $out\n" if $?;
    return ($crt, $key);
}

sub load {
    my ($self, %opt) = @_;

    my $load = Gate::Load->start(%opt, port => $self->_port_of($opt{port}),
        dir => $self->{dir});
    push @{ $self->{stops} }, $load;
    return $load;
}

# Redis and what stands between.  See the packages; all of it ends with the
# test.

sub redis {
    my ($self, %opt) = @_;
    require Gate::Redis;
    my $redis = Gate::Redis->new(dir => $self->{dir}, %opt);
    push @{ $self->{stops} }, $redis;
    return exists $opt{start} && !$opt{start} ? $redis : $redis->start;
}

sub sentinel {
    my ($self, %opt) = @_;
    require Gate::Sentinel;
    return $self->_stops(Gate::Sentinel->new(dir => $self->{dir}, %opt));
}

sub proxy {
    my ($self, @args) = @_;
    require Gate::Proxy;
    return $self->_stops(Gate::Proxy->new(@args));
}

sub fake_redis {
    my ($self, @args) = @_;
    require Gate::FakeRedis;
    return $self->_stops(Gate::FakeRedis->new(@args));
}

sub _stops {
    my ($self, $child) = @_;
    push @{ $self->{stops} }, $child;
    return $child;
}

# Several nginx nodes; done() looks after them.

sub fleet {
    my ($self, @args) = @_;
    require Gate::Fleet;
    my $fleet = Gate::Fleet->new($self, @args);
    push @{ $self->{fleets} }, $fleet;
    return $fleet;
}

# The error log.

sub log_size { return -s "$_[0]{dir}/error.log" || 0 }

sub log_from {
    my ($self, $offset) = @_;

    open my $fh, '<:raw', "$self->{dir}/error.log" or return '';
    seek $fh, $offset, 0;
    local $/;
    my $text = <$fh>;
    return defined $text ? $text : '';
}

sub log_like {
    my ($self, $re, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return Test::More::ok($self->log_from(0) =~ $re, $name || "log has $re");
}

sub log_unlike {
    my ($self, $re, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return Test::More::ok($self->log_from(0) !~ $re,
        $name || "log does not have $re") || Test::More::diag($&);
}

# Waits for a line; from => offset (see log_size) ignores what came before.

sub wait_log {
    my ($self, $re, %opt) = @_;
    return wait_for { $self->log_from($opt{from} || 0) =~ $re }
        what => "'$re' in the error log", %opt;
}

# Alerts that this test provokes.

sub allow { my ($self, @re) = @_; push @{ $self->{allow} }, @re; return $self }

# The end.

sub _checks {
    my ($self) = @_;
    return ($self->{started} ? $self->_verdict : (),
        map { $_->verdict } @{ $self->{fleets} || [] });
}

sub done {
    my ($self) = @_;

    return if $self->{done}++ || $self->{owner} != $$;

    my @checks = $self->_checks;
    for my $child (@{ $self->{stops} }) { eval { $child->stop } }

    # after done_testing() a failure can only show in the exit code
    my $late = eval { Test2::API::test2_stack()->top->ended };
    my $ok = 1;

    for (@checks) {
        my ($name, @problems) = @$_;

        $ok = 0 if @problems;
        Test::More::ok(!@problems, $name) unless $late;
        Test::More::diag("not ok - $name") if $late && @problems;
        splice @problems, 10, @problems, "...\n" if @problems > 10;
        Test::More::diag(@problems) if @problems;
    }

    Test::More::note($self->log_from(0)) if ($ENV{TEST_VERBOSE} || 0) > 1;

    my $passing = $ok && !$self->{died} && Test::More->builder->is_passing;
    $_->clean($ENV{TEST_LEAVE} || !$passing) for @{ $self->{fleets} || [] };
    if ($ENV{TEST_LEAVE} || !$passing) {
        Test::More::diag("see $self->{dir}");
    } else {
        File::Path::remove_tree($self->{dir});
    }

    $? ||= 1 unless $ok;
    return $ok;
}

sub DESTROY {
    my ($self) = @_;
    return if $self->{done} || $self->{owner} != $$;

    local $@;
    my $status = $?;
    $self->done;
    $? = $status || $?;
}

END {
    my $status = $?;
    for my $t (grep { defined && $_->{owner} == $$ } @live) {
        $t->{died} = $status;
        $t->done;
        $status ||= $?;
    }
    $? = $status;
}

1;
