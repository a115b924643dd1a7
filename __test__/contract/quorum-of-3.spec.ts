import { contractOf } from './chapters'

contractOf('quorum of 3')
