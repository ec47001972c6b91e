package Gate::Cursor;

# What a service does that issues cursors.
#
#     my $c = Gate::Cursor->new('a secret of 32 bytes or more ....');
#     $c->issue(40);                    # offset 40, of now
#     $c->issue(40, age => 700);        # of 700 seconds ago
#     $c->issue(40, more => ',"user":"a"');
#     $c->detached('{"ts":1795255200}');
#     $c->jws('{"exp":1795255200}', header => '{"alg":"HS256"}');
#     Gate::Cursor::forged($cursor);    # one bit of its MAC is another

use strict;
use warnings;

use Digest::SHA qw(hmac_sha256 hmac_sha256_hex);
use MIME::Base64 qw(encode_base64 encode_base64url decode_base64url);

sub new {
    my ($class, $secret) = @_;
    return bless { secret => $secret }, $class;
}

sub secret { return $_[0]{secret} }

# An envelope around a payload of offset, ts and what "more" adds to it.  The
# signed text has its names in order: "more" must begin with what comes after
# "ts", or give the signed text itself.

sub issue {
    my ($self, $offset, %o) = @_;

    my $ts = $o{ts} // time - ($o{age} // 0);
    my $payload = qq({"offset":$offset,"ts":$ts) . ($o{more} // '') . '}';

    return $self->envelope($payload, $o{signed});
}

sub envelope {
    my ($self, $payload, $signed) = @_;

    my $sig = hmac_sha256_hex($signed // $payload, $self->{secret});

    return url(qq({"payload":$payload,"sig":"$sig"}));
}

sub detached {
    my ($self, $payload) = @_;

    my $part = encode_base64url($payload);

    return "$part." . hmac_sha256_hex($part, $self->{secret});
}

sub jws {
    my ($self, $payload, %o) = @_;

    my $part = encode_base64url($o{header} // '{"alg":"HS256","typ":"JWT"}')
        . '.' . encode_base64url($payload);

    return "$part." . encode_base64url(hmac_sha256($part, $self->{secret}));
}

# base64url with padding, as Python has it

sub url {
    my ($text) = @_;
    my $s = encode_base64($text, '');
    $s =~ tr{+/}{-_};
    return $s;
}

sub forged {
    my ($cursor) = @_;

    my $text = decode_base64url($cursor);
    $text =~ s/("sig":")(.)/$1 . ($2 eq '0' ? '1' : '0')/e
        or die "no envelope\n";

    return url($text);
}

1;
