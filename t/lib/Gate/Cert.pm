package Gate::Cert;

# An authority of one's own, and what it signs.
#
#   my $ca = Gate::Cert->new($dir);
#   my ($crt, $key) = $ca->issue('server');     # localhost and 127.0.0.1
#   my ($crt, $key) = $ca->issue('other', names => 'DNS:other.test');

use strict;
use warnings;

sub new {
    my ($class, $dir) = @_;

    mkdir $dir, 0755;
    my $self = bless { dir => $dir, ca => "$dir/ca.crt" }, $class;
    return $self if -s $self->{ca};

    _openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', 2,
        '-subj', '/CN=gate test CA', '-keyout', "$dir/ca.key", '-out',
        $self->{ca});
    return $self;
}

sub ca { return $_[0]{ca} }

# (certificate, key), both PEM files; made once per name.

sub issue {
    my ($self, $name, %opt) = @_;

    my ($crt, $key) = map { "$self->{dir}/$name.$_" } qw(crt key);
    return ($crt, $key) if -s $crt;

    my $ext = "$self->{dir}/$name.ext";
    open my $fh, '>', $ext or die "$ext: $!\n";
    print $fh 'subjectAltName=',
        $opt{names} || 'DNS:localhost,IP:127.0.0.1', "\n";
    close $fh or die "$ext: $!\n";

    _openssl('req', '-newkey', 'rsa:2048', '-nodes', '-subj', "/CN=$name",
        '-keyout', $key, '-out', "$self->{dir}/$name.csr");
    _openssl('x509', '-req', '-in', "$self->{dir}/$name.csr", '-CA',
        $self->{ca}, '-CAkey', "$self->{dir}/ca.key", '-CAcreateserial',
        '-days', 2, '-extfile', $ext, '-out', $crt);
    chmod 0644, $key;
    return ($crt, $key);
}

sub _openssl {
    my (@args) = @_;

    my $cmd = join ' ', 'openssl', map { "'$_'" } @args;
    my $out = `$cmd 2>&1`;
    die "openssl: $out\n" if $?;
}

1;
