#!/usr/bin/env node
'use strict'

void require('../cli/index.js').main()
