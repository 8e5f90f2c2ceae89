// Checks every stage of a Dockerfile on standard input with BuildKit's parser and linter, and fails if there is a
// warning. buildah builds only the last stage and does not check the others.
package main

import (
	"fmt"
	"os"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

func main() {
	objections := 0
	object := func(what string) {
		objections++
		fmt.Fprintln(os.Stderr, "Dockerfile:", what)
	}
	parsed, err := parser.Parse(os.Stdin)
	if err == nil {
		lint := linter.New(&linter.Config{Warn: func(rule, _, _, message string, at []parser.Range) {
			object(fmt.Sprintf("line %d: %s: %s", at[0].Start.Line, rule, message))
		}})
		for _, warning := range parsed.Warnings {
			object(warning.Short)
		}
		var stages []instructions.Stage
		if stages, _, err = instructions.Parse(parsed.AST, lint); err == nil {
			err = expand(stages)
		}
	}
	if err != nil {
		object(err.Error())
	}
	if objections > 0 {
		os.Exit(1)
	}
}

// BuildKit checks the arguments of `--mount` only when it expands variables.
func expand(stages []instructions.Stage) error {
	for _, stage := range stages {
		for _, command := range stage.Commands {
			if expandable, ok := command.(instructions.SupportsSingleWordExpansion); ok {
				if err := expandable.Expand(func(word string) (string, error) { return word, nil }); err != nil {
					return fmt.Errorf("%s: %w", command.Name(), err)
				}
			}
		}
	}
	return nil
}
