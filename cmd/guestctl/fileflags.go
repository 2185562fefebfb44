package main

import "github.com/spf13/cobra"

// userFlag adds -u, the user whose rights files are worked on with.
func userFlag(cmd *cobra.Command, user *string) {
	cmd.Flags().StringVarP(user, "user", "u", "", "work with the rights of `NAME|UID[:GROUP|GID]` (default: the agent's own user)")
}

func jsonFlag(cmd *cobra.Command, json *bool) {
	cmd.Flags().BoolVar(json, "json", false, "print JSON; see 'guestctl help json'")
}

// each does something for every operand and goes on after an error, which it
// tells at once. An error of the connection, or an end that was asked for, ends
// it.
func (a *app) each(operands []string, do func(operand string) error) error {
	failed := false
	for _, operand := range operands {
		err := do(operand)
		if err == nil {
			continue
		}
		if len(operands) == 1 || isFinal(err) {
			return err
		}
		a.complain(err)
		failed = true
	}
	if failed {
		return errReported
	}
	return nil
}
