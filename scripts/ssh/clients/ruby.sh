# Ruby's net-ssh, net-sftp and net-scp. Debian has no library of curve25519 for
# them, so that they exchange keys by ecdh-sha2-nistp256.
client=ruby
command -v ruby >/dev/null && ruby -e 'require "net/ssh"; require "net/sftp"; require "net/scp"; require "ed25519"; require "bcrypt_pbkdf"' 2>/dev/null ||
	absent "no net-ssh: apt-get install ruby-net-ssh ruby-net-sftp ruby-net-scp ruby-ed25519 ruby-bcrypt-pbkdf"
version=$(ruby -e 'require "net/ssh"; print "net-ssh ", Net::SSH::Version::STRING')
a_file "$near/file" 3000000
succeeds "commands and files" timeout 120 \
	ruby "$root/scripts/ssh/ruby_client.rb" "$door_port" "$IDENTITY" "$known_hosts" "$near/file" "$far"
finish
