package console

func (c *Console) serveEvents() {}
