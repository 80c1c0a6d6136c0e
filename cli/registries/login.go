//go:build linux

package registries

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/tty"
)

// account is who logs in.
type account struct {
	user, password string
	fromStdin      bool
}

// Login is the command `login`.
func Login(c *Call) *cobra.Command {
	var who account
	cmd := &cobra.Command{
		Use: "login [OPTIONS] [SERVER]", Short: "Authenticate to a registry", Args: c.Args(0, 1),
		Long: "Authenticate to a registry, Docker Hub if none is named. On a terminal it asks for what is not given.",
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := c.Open()
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), unix.SIGINT, unix.SIGTERM)
			defer stop()
			if err := c.identify(ctx, cmd, &who); err != nil {
				return err
			}
			if err := e.Login(ctx, strings.Join(args, ""), who.user, who.password); err != nil {
				return err
			}
			fmt.Fprintln(c.Out, "Login Succeeded")
			return nil
		},
	}
	cmd.Flags().StringVarP(&who.user, "username", "u", "", "Username")
	cmd.Flags().StringVarP(&who.password, "password", "p", "", "Password or Personal Access Token (PAT)")
	cmd.Flags().BoolVar(&who.fromStdin, "password-stdin", false, "Take the Password or Personal Access Token (PAT) from stdin")
	return cmd
}

// identify finds out what of an account was not given.
func (c *Call) identify(ctx context.Context, cmd *cobra.Command, who *account) error {
	byFlag := cmd.Flags().Changed("password")
	switch {
	case byFlag && who.fromStdin:
		return errs.Text(errs.Invalid, "--password and --password-stdin are mutually exclusive")
	case who.fromStdin && who.user == "":
		return errs.Text(errs.Invalid, "Must provide --username with --password-stdin")
	case byFlag:
		fmt.Fprintln(c.Err, "WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
	case who.fromStdin:
		b, err := io.ReadAll(io.LimitReader(c.In, 64<<10))
		if err != nil {
			return errs.Wrap("read password", err)
		}
		who.password = strings.TrimRight(string(b), "\r\n")
	}
	if (who.user == "" || who.password == "") && !tty.IsTerminal(c.In) {
		return errs.New(errs.Invalid, "login", errors.New("cannot perform an interactive login from a non TTY device")).
			WithHint("berth login -u NAME --password-stdin SERVER < FILE")
	}
	if who.user == "" {
		if err := c.ask(ctx, "Username: ", &who.user, func() (string, error) { return bufio.NewReader(c.In).ReadString('\n') }); err != nil {
			return err
		}
	}
	if who.password == "" {
		return c.ask(ctx, "Password: ", &who.password, func() (string, error) {
			b, err := term.ReadPassword(int(c.In.Fd()))
			fmt.Fprintln(c.Out)
			return string(b), err
		})
	}
	return nil
}

// ask asks at the terminal, which is as it was before when the user interrupts it.
func (c *Call) ask(ctx context.Context, prompt string, answer *string, read func() (string, error)) error {
	was, err := term.GetState(int(c.In.Fd()))
	if err != nil {
		return errs.Wrap("read terminal", err)
	}
	fmt.Fprint(c.Out, prompt)
	done := make(chan error, 1)
	go func() {
		text, err := read()
		*answer = strings.TrimSpace(text)
		done <- err
	}()
	select {
	case err = <-done:
	case <-ctx.Done():
		_ = term.Restore(int(c.In.Fd()), was)
		fmt.Fprintln(c.Out)
		return errs.New(errs.Canceled, "login", context.Cause(ctx))
	}
	if err == nil && *answer == "" {
		err = errs.Text(errs.Invalid, strings.ToLower(strings.TrimSuffix(prompt, ": "))+" is required")
	}
	return errs.Wrap("login", err)
}

// Logout is the command `logout`.
func Logout(c *Call) *cobra.Command {
	return &cobra.Command{
		Use: "logout [SERVER]", Short: "Log out from a registry", Args: c.Args(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := c.Open()
			if err != nil {
				return err
			}
			host := strings.Join(args, "")
			if err := e.Logout(host); err != nil {
				return err
			}
			if host == "" {
				host = "docker.io"
			}
			fmt.Fprintln(c.Out, "Removing login credentials for "+host)
			return nil
		},
	}
}
