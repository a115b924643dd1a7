import { contractOf } from './chapters'

contractOf('local, in memory')
