package console

func (c *Console) serveLetters() {}
