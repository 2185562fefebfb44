package client_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"github.com/guestd/guestd/client"
)

// dial connects to an agent on a unix socket; package vsock has a function for
// every other kind.
func dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", "/run/guestd.sock")
}

func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := client.New(dial, client.Config{Name: "unix:/run/guestd.sock"})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	if err := c.Ready(ctx); err != nil {
		log.Fatal(err)
	}

	if _, err := c.Upload(ctx, "./app", "/srv/app", client.UploadOptions{}); err != nil {
		log.Fatal(err)
	}
	cmd := c.Command("go", "test", "./...")
	cmd.Dir = "/srv/app"
	out, err := cmd.Output(ctx)
	if exit, ok := errors.AsType[*client.ExitError](err); ok {
		log.Fatalf("exit %d: %s", exit.Code, exit.Stderr)
	}
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s", out)
}

func ExampleClient_Shell() {
	ctx := context.Background()
	c, err := client.New(dial, client.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	cmd := c.Shell("make 2>&1 | tail")
	cmd.User = "ann"
	cmd.Dir = "/srv/app"
	cmd.Env = []string{"CI=1"}
	cmd.Timeout = 10 * time.Minute
	cmd.Limits.Memory = 512 << 20
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(ctx); err != nil {
		log.Fatal(err)
	}
}

func ExampleCmd_StdoutPipe() {
	ctx := context.Background()
	c, err := client.New(dial, client.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	cmd := c.Command("journalctl", "--follow")
	out, err := cmd.StdoutPipe()
	if err != nil {
		log.Fatal(err)
	}
	if err := cmd.Start(ctx); err != nil {
		log.Fatal(err)
	}
	var first string
	if _, err := fmt.Fscanln(out, &first); err != nil {
		log.Fatal(err)
	}
	out.Close() // ends the command, as a closed pipe does
	if err := cmd.Wait(); err != nil {
		log.Print(err)
	}
}

func ExampleProcess_Attach() {
	ctx := context.Background()
	c, err := client.New(dial, client.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	// Once, from anywhere:
	if _, err := c.Start(ctx, client.Spec{ID: "web", Args: []string{"python3", "-m", "http.server", "8000"}}); err != nil {
		log.Fatal(err)
	}

	// Later, from anywhere else:
	web := c.Process("web")
	if _, err := web.Wait(ctx, client.WaitPort{Port: 8000, Own: true}, client.WaitExit{}); err != nil {
		log.Fatal(err)
	}
	attachment, err := web.Attach(ctx, client.AttachOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer attachment.Close()
	for event, err := range attachment.Events() {
		switch {
		case err != nil:
			log.Fatal(err)
		case event.Gap != nil:
			fmt.Printf("[%d bytes missed]\n", event.Gap.Bytes)
		case event.Exit != nil:
			fmt.Println(event.Exit)
		default:
			fmt.Printf("%s", event.Data)
		}
	}
}

func ExampleClient_FS() {
	c, err := client.New(dial, client.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err = fs.WalkDir(c.FS().WithContext(ctx), "etc", func(path string, entry fs.DirEntry, err error) error {
		if err == nil {
			fmt.Println(path)
		}
		return err
	})
	if errors.Is(err, fs.ErrPermission) {
		log.Print("not all of it")
	}
}

func ExampleFiles_WriteFile() {
	ctx := context.Background()
	c, err := client.New(dial, client.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	backup, err := os.Open("backup.sql")
	if err != nil {
		log.Fatal(err)
	}
	defer backup.Close()
	info, err := c.FilesAs("postgres", "~").WriteFile(ctx, "restore/backup.sql", backup, client.WriteOptions{
		Parents: true,
		Perm:    0o600,
	})
	if errors.Is(err, client.ErrNoSpace) {
		log.Fatal("the guest's disk is full; what was there is untouched")
	}
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(info)
}

func ExampleClient_DialSSH() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := client.New(dial, client.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	// The SSH server's own socket; in a microVM it is vsock port 22.
	door := func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", "/run/guestd-ssh.sock")
	}
	conn, err := c.DialSSH(ctx, door, client.Grant{User: "ann"})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	session, err := conn.NewSession()
	if err != nil {
		log.Fatal(err)
	}
	out, err := session.CombinedOutput("uptime")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s", out)
}

func ExampleClient_Grant() {
	ctx := context.Background()
	c, err := client.New(dial, client.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	// For one person, one connection, within ten minutes: ssh SECRET@…
	secret := client.NewSecret()
	grant, err := c.Grant(ctx, client.Grant{
		Secret: secret,
		User:   "ann",
		TTL:    10 * time.Minute,
		Label:  "sent to ann@example.com",
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("hand out", secret, "and take it back with", grant.ID)

	if _, err := c.Revoke(ctx, grant.ID); err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Fatal(err)
	}
}

func ExampleClient_DialContext() {
	ctx := context.Background()
	c, err := client.New(dial, client.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	// A web server in the guest, though there is no network between the two.
	web := &http.Client{Transport: &http.Transport{DialContext: c.DialContext}}
	response, err := web.Get("http://localhost:3000/healthz")
	if errors.Is(err, syscall.ECONNREFUSED) {
		log.Fatal("nobody listens yet")
	}
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	fmt.Println(response.Status)

	// A server of the host, for the guest.
	l, err := c.Listen(ctx, "tcp", "localhost:8080")
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.Serve(l, http.FileServer(http.Dir("/srv/packages"))))
}

func ExampleClient_WatchPorts() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	c, err := client.New(dial, client.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	watch, err := c.WatchPorts(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = watch.Close() }()
	for change, err := range watch.Changes() {
		if err != nil {
			log.Fatal(err)
		}
		for _, port := range change.Opened {
			fmt.Printf("%s listens on %s\n", port.Name, port.Addr)
		}
	}
}
