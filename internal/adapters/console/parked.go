package console

func (c *Console) serveParked() {}
