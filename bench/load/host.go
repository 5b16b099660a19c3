package main

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"ehi-server/api/node"
)

// host runs a sandbox server in this process, on a folder that goes away with it, with the
// records of a source. change, if not nil, changes its configuration.
func host(
	ctx context.Context, source string, change func(*node.Config),
) (url string, stop func() error, err error) {
	cfg, err := node.Defaults()
	if err != nil {
		return "", nil, err
	}
	cfg.Addr = "127.0.0.1:0"
	if source != "" {
		cfg.Source.Spec = source
	}
	if change != nil {
		change(&cfg)
	}
	folder, err := os.MkdirTemp("", "load-*")
	if err != nil {
		return "", nil, err
	}
	n, err := node.Open(ctx, cfg, folder, slog.New(slog.DiscardHandler), node.Options{})
	if err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(folder))
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) // it outlives the last flow
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	return n.URL, func() error {
		cancel()
		return errors.Join(<-done, n.Close(), os.RemoveAll(folder))
	}, nil
}
