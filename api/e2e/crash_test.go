package e2e

func runChild() {}
