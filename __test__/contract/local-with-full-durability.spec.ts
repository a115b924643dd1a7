import { contractOf } from './chapters'

contractOf('local, with full durability')
