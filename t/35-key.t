#!/usr/bin/perl

# gate_key where it is one variable: a header of the request above all, which
# the gate looks up by itself.  It must be what nginx's variable is.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Test::More;

my $t = Gate->new;

my %arm = map { $_ => $t->backend('ok', body => $_) } qw(stable canary);

# Two composites cannot be compared, each has a seed of its own.  So one
# composite is asked by a header, and by what the same key says otherwise.

$t->http(workers => 1, <<"EOF_CONF");
    underscores_in_headers on;

    map \$arg_mine \$http_x_mine { default \$arg_mine; }

    upstream s { server @{[ $arm{stable}->addr ]}; }
    upstream c { server @{[ $arm{canary}->addr ]}; }

    upstream header { gate_canary s c weight=50%; gate_key \$http_x_caller; }
    upstream mine   { gate_canary s c weight=50%; gate_key \$http_x_mine; }
    upstream agent  { gate_canary s c weight=50%; gate_key \$http_user_agent; }
    upstream braces { gate_canary s c weight=50%; gate_key \${arg_k}; }
    upstream letter { gate_canary s c weight=50%; gate_key \$HTTP_X_CALLER; }

    server {
        listen 127.0.0.1:%%PORT:http%%;

        add_header X-Caller \$http_x_caller;

        location /header { proxy_pass http://header; }
        location /mine   { proxy_pass http://mine; }
        location /agent  { proxy_pass http://agent; }
        location /braces { proxy_pass http://braces; }
        location /letter { proxy_pass http://letter; }
    }
EOF_CONF

$t->start;

my @keys = map { "caller-$_" } 1 .. 24;

sub arm {
    my ($uri, @headers) = @_;
    my $r = $t->get($uri, headers => [@headers]);
    die $r->as_text if $r->status != 200;
    return $r->body;
}

sub arms { my ($code) = @_; return join ' ', map { $code->($_) } @keys }

my $by_header = arms(sub { arm('/header', 'X-Caller' => $_[0]) });

like($by_header, qr/stable/, 'some callers are on stable');
like($by_header, qr/canary/, 'and some on the canary');

is(arms(sub { arm('/header', 'X-Caller' => $_[0]) }), $by_header,
    'each always on the same');
is(arms(sub { arm('/header', 'x-cALLER' => $_[0]) }), $by_header,
    'however the header is written');
is(arms(sub { arm('/header', 'X_Caller' => $_[0]) }), $by_header,
    'with an underscore too, where nginx lets it in');
is(arms(sub { arm('/header', 'X-Calles' => 'no', 'X-Calle' => 'no',
    'X-Caller2' => 'no', 'X-Caller' => $_[0], 'X-Other' => 'no') }),
    $by_header, 'whatever else there is');
is(arms(sub { arm('/header', (map { ("X-H$_" => 'x') } 1 .. 30),
    'X-Caller' => $_[0]) }), $by_header, 'behind many others');

# nginx before 1.23 takes the first, later ones join them

my $twice = $t->get('/header', headers => ['X-Caller' => 'caller-1',
    'X-Caller' => 'caller-2'])->header('X-Caller');

is(arms(sub {
    my ($n) = $_[0] =~ /(\d+)/;
    arm('/header', 'X-Caller' => "caller-$n", 'X-Caller' => 'other');
}), arms(sub {
    my ($n) = $_[0] =~ /(\d+)/;
    arm('/header', 'X-Caller' => $twice =~ /,/ ? "caller-$n, other"
                                               : "caller-$n");
}), "two headers are what nginx makes of them ($twice)");

my %dice;
$dice{ arm('/header') }++ for 1 .. 60;
is(scalar keys %dice, 2, 'without the header: at random');

%dice = ();
$dice{ arm('/header', 'X-Caller' => '') }++ for 1 .. 60;
is(scalar keys %dice, 2, 'with an empty one: at random');

is(arms(sub { arm("/mine?mine=$_[0]", 'X-Mine' => rand) }),
    arms(sub { arm("/mine?mine=$_[0]") }),
    'a variable of that name that is somebody\'s own comes first');

my $agents = arms(sub { arm('/agent', 'User-Agent' => $_[0]) });
like($agents, qr/stable.*canary|canary.*stable/s, 'nginx\'s own header');
is(arms(sub { arm('/agent', 'User-Agent' => $_[0]) }), $agents, 'is a key');

my $braces = arms(sub { arm("/braces?k=$_[0]") });
like($braces, qr/stable.*canary|canary.*stable/s, 'a variable in braces');
is(arms(sub { arm("/braces?k=$_[0]") }), $braces, 'is a key');

my $letter = arms(sub { arm('/letter', 'X-Caller' => $_[0]) });
like($letter, qr/stable.*canary|canary.*stable/s, 'a name in capital letters');
is(arms(sub { arm('/letter', 'X-Caller' => $_[0]) }), $letter, 'is a key');

$t->done;
done_testing;
