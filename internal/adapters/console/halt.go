package console

func (c *Console) serveHalt() {}
