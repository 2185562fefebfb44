//go:build linux

package main

import (
	"errors"
	"fmt"
	"strings"
)

// getopt takes options off args as POSIX programs do: "-a -b VALUE", "-ab
// VALUE", "-bVALUE", up to the first argument that is none or "--". It calls
// each with every option, and returns the rest. spec is getopt(3)'s: letters,
// those with a value followed by a colon. "--help" is given to each as 'h'.
func getopt(args []string, spec string, each func(option byte, value string) error) ([]string, error) {
	for len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' {
		word := args[0]
		args = args[1:]
		switch word {
		case "--":
			return args, nil
		case "--help":
			word = "-h"
		}
		for letters := word[1:]; letters != ""; {
			option := letters[0]
			letters = letters[1:]
			at := strings.IndexByte(spec, option)
			if at < 0 || option == ':' {
				return nil, usageError{fmt.Errorf("unknown option -%c", option)}
			}
			value := ""
			if strings.HasPrefix(spec[at+1:], ":") {
				if value, letters = letters, ""; value == "" {
					if len(args) == 0 {
						return nil, usageError{fmt.Errorf("option -%c needs a value", option)}
					}
					value, args = args[0], args[1:]
				}
			}
			if err := each(option, value); err != nil {
				return nil, optionError(option, err)
			}
		}
	}
	return args, nil
}

// optionError says which option an error is about; what is to end the program
// as it is passes through.
func optionError(option byte, err error) error {
	if errors.Is(err, errHelp) {
		return err
	}
	return usageError{fmt.Errorf("option -%c: %w", option, err)}
}
