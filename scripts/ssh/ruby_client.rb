# Ruby's net-ssh, net-sftp and net-scp as clients. Prints what went wrong; the
# status is the number of that.
#
#   ruby_client.rb PORT KEY KNOWN_HOSTS FILE FAR

require 'etc'
require 'net/ssh'
require 'net/sftp'
require 'net/scp'

port, key, known_hosts, file, far = ARGV
user = Etc.getpwuid.name
options = {
  port: port.to_i, keys: [key], keys_only: true, config: false, auth_methods: %w[publickey],
  user_known_hosts_file: known_hosts, verify_host_key: :always, non_interactive: true, timeout: 30
}
bytes = File.binread(file)
failed = 0
check = lambda do |what, want, &got|
  result = begin
    got.call
  rescue StandardError => e
    "#{e.class}: #{e.message}"
  end
  next if result == want

  failed += 1
  puts "#{what}: #{result.inspect[0, 300]}, want #{want.inspect[0, 300]}"
end

Net::SSH.start('127.0.0.1', user, options) do |ssh|
  check.call('streams and status', ['o', 'e', 3]) do
    out = ''.dup
    err = ''.dup
    status = {}
    ssh.exec!('printf o; printf e >&2; exit 3', status: status) { |_, stream, data| (stream == :stdout ? out : err) << data }
    [out, err, status[:exit_code]]
  end
  check.call('input', bytes) do
    out = ''.b
    ssh.open_channel do |channel|
      channel.exec('cat') do |opened, _|
        opened.on_data { |_, data| out << data }
        opened.send_data(bytes)
        opened.eof!
      end
    end.wait
    out
  end
  check.call('many channels', (1..50).to_a) do
    numbers = []
    (1..50).each do |n|
      ssh.open_channel { |c| c.exec("echo #{n}") { |opened, _| opened.on_data { |_, data| numbers << data.to_i } } }
    end
    ssh.loop
    numbers.sort
  end
  check.call('a terminal', "33 100\r\n") do
    out = ''.dup
    ssh.open_channel do |channel|
      channel.request_pty(chars_wide: 100, chars_high: 33) do |terminal, _|
        terminal.exec('stty size') { |opened, _| opened.on_data { |_, data| out << data } }
      end
    end.wait
    out
  end
end

Net::SFTP.start('127.0.0.1', user, options) do |sftp|
  check.call('upload', bytes) do
    sftp.upload!(file, "#{far}/up")
    File.binread("#{far}/up")
  end
  check.call('download', bytes) { sftp.download!("#{far}/up").b }
  check.call('rename and list', %w[. .. renamed]) do
    sftp.rename!("#{far}/up", "#{far}/renamed")
    sftp.dir.entries(far).map(&:name).sort
  end
end

check.call('scp', bytes) do
  Net::SCP.upload!('127.0.0.1', user, file, "#{far}/scp", ssh: options)
  Net::SCP.download!('127.0.0.1', user, "#{far}/scp", nil, ssh: options).b
end
exit failed
