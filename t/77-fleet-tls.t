#!/usr/bin/perl

# The suite of t/71 against over TLS, as a user with few rights.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

BEGIN { $ENV{TEST_REDIS} = 'tls' }

do "$FindBin::Bin/71-fleet-switch.t" or die $@ || $!;
