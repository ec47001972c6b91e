#!/usr/bin/perl

# Copyright (C) nginx-gate authors

# deb-src.pl OUTDIR [ETC_APT]: from the binary package sources this machine
# has, one-line and deb822, writes the source package ones of Debian proper
# into OUTDIR.  Where they come from and which key they are verified with stay
# as they are.

use warnings;
use strict;

my ($out, $etc) = @ARGV;
die "usage: deb-src.pl OUTDIR [ETC_APT]\n" unless defined $out;
$etc = '/etc/apt' unless defined $etc;

my ($codename) = slurp('/etc/os-release') =~ /^VERSION_CODENAME="?(\w+)/m;
$codename = 'sid' unless defined $codename;

# The suites Debian's archive has for a release.  A repository of somebody
# else calls its suite something else, or has other components.

my $release = qr/(?:\Q$codename\E|stable|oldstable|testing|unstable|sid)/;
my $suite = qr{^$release(?:/updates|-security|-updates|-proposed-updates)?/?$};
my $component = qr/^(?:main|nginx)$/;

my ($lines, $stanzas) = ('', '');

for my $file ("$etc/sources.list", sort glob("$etc/sources.list.d/*.list")) {
    next unless -f $file;

    for (split /\n/, slurp($file)) {
        s/#.*//;

        my ($options, $uri, $name, $rest)
            = /^\s*deb(?:-src)?\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s*(.*)$/
            or next;

        my @components = grep { $_ =~ $component } split ' ', $rest;
        next unless $name =~ $suite && @components;

        my @options = grep { !/^(?:arch|lang|target)[+-]?=/ }
                      split ' ', defined $options ? $options : '';

        my $brackets = @options ? "[@options] " : '';
        my $line = "deb-src $brackets$uri $name @components\n";

        $lines .= $line unless index($lines, $line) >= 0;
    }
}

for my $file (sort glob("$etc/sources.list.d/*.sources")) {

    for my $stanza (split /\n\s*\n/, slurp($file)) {
        $stanza =~ s/^#.*\n?//mg;

        my (@fields, %value, $name);

        for (split /\n/, $stanza) {
            if (/^([\w-]+):\s*(.*?)\s*$/) {
                $name = lc $1;
                push @fields, $name;
                $value{$name} = $2;

            } elsif (/^\s/ && defined $name) {
                # a key may be in the file itself, line by line
                $value{$name} .= "\n$_";
            }
        }

        next unless defined $value{types} && defined $value{suites};
        next if lc(defined $value{enabled} ? $value{enabled} : 'yes')
                =~ /^(?:no|false|off|0|without|disable)$/;

        my @suites = grep { $_ =~ $suite } split ' ', $value{suites};
        my @components = grep { $_ =~ $component }
            split ' ', defined $value{components} ? $value{components} : '';

        next unless @suites && @components;

        $value{types} = 'deb-src';
        $value{suites} = "@suites";
        $value{components} = "@components";

        for (@fields) {
            next if /^(?:architectures|languages|targets)(?:-add|-remove)?$/;
            $stanzas .= "$_: $value{$_}\n";
        }

        $stanzas .= "\n";
    }
}

die "deb-src.pl: no package source of Debian '$codename' in $etc\n"
    if $lines eq '' && $stanzas eq '';

spew("$out/gate.list", $lines);
spew("$out/gate.sources", $stanzas);


sub slurp {
    my ($name) = @_;

    open my $fh, '<', $name or die "$name: $!\n";
    local $/;
    my $text = <$fh>;

    return defined $text ? $text : '';
}


sub spew {
    my ($name, $text) = @_;

    open my $fh, '>', $name or die "$name: $!\n";
    print $fh $text;
    close $fh or die "$name: $!\n";
}
