package console

func (c *Console) serveSettings() {}
